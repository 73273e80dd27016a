//! Window layouts: how a window is divided among its panes.

use nom::branch::alt;
use nom::bytes::complete::take;
use nom::character::complete::char;
use nom::combinator::{all_consuming, map, map_opt, not, opt, rest, success, verify};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, separated_pair, terminated};
use nom::{IResult, Parser};

use super::id::{PaneId, number};

/// How deep cells may lie within cells. tmux has no more levels than panes on a screen; deeper input is refused.
const DEPTH_LIMIT: usize = 128;

/// A window's layout, as in `b25d,80x24,0,0,0`, with a checksum that was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The whole window.
    pub root: Cell,
    /// Panes that float above it (tmux 3.7).
    pub floating: Vec<Cell>,
}

/// A rectangle of a window, in cells of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Width in columns.
    pub cols: u32,
    /// Height in rows.
    pub rows: u32,
    /// Columns from the left edge of the window; may be negative for floating panes (tmux 3.7).
    pub x: i32,
    /// Rows from the top edge of the window; may be negative for floating panes (tmux 3.7).
    pub y: i32,
    /// What is in it.
    pub content: Content,
}

/// What a cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A pane.
    Pane(PaneId),
    /// Cells side by side.
    Columns(Vec<Cell>),
    /// Cells one below the other.
    Rows(Vec<Cell>),
    /// Nothing.
    Empty,
}

impl Layout {
    /// Every pane of the window, from left to right and top to bottom, floating ones last.
    #[must_use]
    pub fn panes(&self) -> Vec<PaneId> {
        let mut panes = Vec::new();
        self.root.collect_panes(&mut panes);
        self.floating.iter().for_each(|cell| cell.collect_panes(&mut panes));
        panes
    }
}

impl Cell {
    fn collect_panes(&self, panes: &mut Vec<PaneId>) {
        match &self.content {
            Content::Pane(pane) => panes.push(*pane),
            Content::Columns(cells) | Content::Rows(cells) => {
                cells.iter().for_each(|cell| cell.collect_panes(panes));
            }
            Content::Empty => {}
        }
    }
}

/// ```abnf
/// layout = checksum "," tree
/// ```
pub fn layout(input: &[u8]) -> IResult<&[u8], Layout> {
    let mut summed = verify(separated_pair(checksum, char(','), rest), |(sum, tree)| *sum == sum_of(tree));
    let (left, (_, inside)) = summed.parse(input)?;
    let (_, layout) = all_consuming(tree).parse(inside)?;
    Ok((left, layout))
}

/// Lower-case, as tmux prints it.
///
/// ```abnf
/// checksum = 4( DIGIT / %x61-66 )
/// ```
fn checksum(input: &[u8]) -> IResult<&[u8], u16> {
    let digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let digits = verify(take(4_usize), move |text: &[u8]| text.iter().all(digit));
    map(digits, |text: &[u8]| text.iter().fold(0, |sum, &b| sum << 4 | hex_value(b))).parse(input)
}

fn hex_value(digit: u8) -> u16 {
    u16::from(if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 })
}

/// The checksum of everything after the comma: rotate right, add (`layout_checksum` in tmux).
#[must_use]
pub fn sum_of(tree: &[u8]) -> u16 {
    tree.iter().fold(0, |sum: u16, &b| sum.rotate_right(1).wrapping_add(u16::from(b)))
}

/// ```abnf
/// tree = cell [ "<" cells ">" ]
/// ```
fn tree(input: &[u8]) -> IResult<&[u8], Layout> {
    let floating = opt(delimited(char('<'), cells(0), char('>'))).map(Option::unwrap_or_default);
    (cell(0), floating).map(|(root, floating)| Layout { root, floating }).parse(input)
}

/// ```abnf
/// cells = cell *( "," cell )
/// ```
fn cells(depth: usize) -> impl FnMut(&[u8]) -> IResult<&[u8], Vec<Cell>> {
    move |input| separated_list1(char(','), cell(depth)).parse(input)
}

/// ```abnf
/// cell = number "x" number "," integer "," integer content
/// ```
fn cell(depth: usize) -> impl FnMut(&[u8]) -> IResult<&[u8], Cell> {
    move |input| {
        let size = separated_pair(number, char('x'), number);
        let place = (preceded(char(','), integer), preceded(char(','), integer));
        let whole = (size, place, content(depth));
        map(whole, |((cols, rows), (x, y), content)| Cell { cols, rows, x, y, content }).parse(input)
    }
}

/// A number after the comma is a pane only if no `x` follows: then it is the next cell.
///
/// ```abnf
/// content = "," number / "{" cells "}" / "[" cells "]" / ""
/// ```
fn content(depth: usize) -> impl FnMut(&[u8]) -> IResult<&[u8], Content> {
    move |input| {
        if depth == DEPTH_LIMIT {
            return Ok((input, Content::Empty));
        }
        let pane = terminated(preceded(char(','), number), not(char('x')));
        alt((
            map(pane, |id| Content::Pane(PaneId(id))),
            map(delimited(char('{'), cells(depth + 1), char('}')), Content::Columns),
            map(delimited(char('['), cells(depth + 1), char(']')), Content::Rows),
            success(Content::Empty),
        ))
        .parse(input)
    }
}

/// Fits an `i32`.
///
/// ```abnf
/// integer = [ "-" ] number
/// ```
fn integer(input: &[u8]) -> IResult<&[u8], i32> {
    let signed = (opt(char('-')), number).map(|(minus, size)| match minus {
        Some(_) => -i64::from(size),
        None => i64::from(size),
    });
    map_opt(signed, |value| i32::try_from(value).ok()).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a tree after giving it its checksum.
    fn check(tree: &str, panes: &[u32]) -> Layout {
        let text = format!("{:04x},{tree}", sum_of(tree.as_bytes()));
        let (left, layout) = layout(text.as_bytes()).unwrap();
        assert!(left.is_empty());
        assert_eq!(layout.panes(), panes.iter().copied().map(PaneId).collect::<Vec<_>>());
        layout
    }

    #[test]
    fn recorded_layouts() {
        let one = layout(b"b25d,80x24,0,0,0").unwrap().1;
        let cell = Cell { cols: 80, rows: 24, x: 0, y: 0, content: Content::Pane(PaneId(0)) };
        assert_eq!(one, Layout { root: cell, floating: vec![] });
        let nested = "80x24,0,0{30x24,0,0[30x12,0,0,0,30x11,0,13,2],29x24,31,0,1,19x24,61,0,3}";
        let Content::Columns(columns) = check(nested, &[0, 2, 1, 3]).root.content else { panic!() };
        assert_eq!(columns.len(), 3);
        assert!(layout(format!("a101,{nested}").as_bytes()).is_ok());
    }

    #[test]
    fn floating_panes_may_lie_outside_and_a_cell_may_be_empty() {
        let layout = check("80x24,0,0,0<20x5,-3,-1,4,10x2,70,20,5>", &[0, 4, 5]);
        assert_eq!((layout.floating[0].x, layout.floating[0].y), (-3, -1));
        assert_eq!(check("80x24,0,0", &[]).root.content, Content::Empty);
        check("80x24,0,0{40x24,0,0,39x24,41,0,1}", &[1]);
    }

    #[test]
    fn a_wrong_checksum_or_tree_is_refused() {
        for bad in ["b25c,80x24,0,0,0", "B25D,80x24,0,0,0", "b25d", "", "b25d,80x24,0,0,0 "] {
            assert!(layout(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["80x24,0,0{}", "80x24,0,0{1x1,0,0,1", "80x,0,0,0", "80x24,0,+1,0", "80x24,0,0,0<>"] {
            assert!(layout(format!("{:04x},{bad}", sum_of(bad.as_bytes())).as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}1x1,0,0,7{}", "1x1,0,0{".repeat(n), "}".repeat(n));
        check(&nested(DEPTH_LIMIT - 1), &[7]);
        let deep = nested(30_000);
        assert!(layout(format!("{:04x},{deep}", sum_of(deep.as_bytes())).as_bytes()).is_err());
    }
}
