//! Where a run of the simulation takes its choices from: a seed, or a list made by an earlier run.

/// Makes choices and remembers them. The choice 0 is always the dullest: nothing fails, the first thing goes on.
pub(super) struct Choices {
    random: u64,
    given: Option<Vec<u32>>,
    pub(super) made: Vec<u32>,
}

impl Choices {
    pub(super) fn seeded(seed: u64) -> Self {
        Self { random: seed, given: None, made: Vec::new() }
    }

    /// The choices of `given` once more, and dull ones after them.
    pub(super) fn replayed(given: Vec<u32>) -> Self {
        Self { random: 0, given: Some(given), made: Vec::new() }
    }

    /// A number below `n`, which is not 0.
    pub(super) fn pick(&mut self, n: usize) -> usize {
        let n = u32::try_from(n).unwrap();
        let choice = match &self.given {
            Some(given) => given.get(self.made.len()).copied().unwrap_or(0) % n,
            None => u32::try_from(self.next() % u64::from(n)).unwrap(),
        };
        self.made.push(choice);
        usize::try_from(choice).unwrap()
    }

    /// Whether something that comes to pass once in `n` times does.
    pub(super) fn happens(&mut self, n: usize) -> bool {
        self.pick(n) == n - 1 && n > 1
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
