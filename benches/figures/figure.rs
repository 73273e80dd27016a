//! One figure: its rounds, and what it is to be compared with.

use std::fmt;

/// Values of one kind, measured several times.
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    /// What the values are to be compared with: its name, and its own values.
    peer: Option<(&'static str, Vec<f64>)>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit, values, peer: None }
    }

    /// The same beside what was measured without kas, or without the fault.
    pub(crate) fn beside(mut self, what: &'static str, values: Vec<f64>) -> Self {
        self.peer = Some((what, values));
        self
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = ends(&self.values);
        let Self { name, unit, values, .. } = self;
        write!(f, "{name:<34} {:>9.1} {unit:<5} {least:.1}–{most:.1}", median(values))?;
        write!(f, "  ({} rounds)", values.len())?;
        match &self.peer {
            Some((what, values)) => {
                let (least, most) = ends(values);
                write!(f, "  {what}: {:.1} {unit} {least:.1}–{most:.1}", median(values))
            }
            None => Ok(()),
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// The value that so many of a hundred do not exceed.
pub(crate) fn percentile(values: &[f64], hundredths: usize) -> f64 {
    let values = sorted(values);
    values[(values.len() * hundredths).div_ceil(100).clamp(1, values.len()) - 1]
}

fn ends(values: &[f64]) -> (f64, f64) {
    let values = sorted(values);
    (values[0], values[values.len() - 1])
}
