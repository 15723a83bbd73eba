//! What attention is told: its heads, and what a token sees.

/// How attention is shared out: `query` heads, in groups of equal size that share `key_value` heads (Ainslie et al. 2023,
/// arXiv:2305.13245); all `size` wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub query: i64,
    pub key_value: i64,
    pub size: i64,
}

impl Heads {
    /// So many heads of queries, keys and values alike, which share `width`.
    pub fn alike(heads: i64, width: i64) -> Self {
        Self { query: heads, key_value: heads, size: width / heads.max(1) }
    }

    /// Widths of queries, of keys, and of values.
    pub fn widths(self) -> [i64; 3] {
        [self.query, self.key_value, self.key_value].map(|heads| heads * self.size)
    }
}

/// Which tokens of its own sequence a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    All,
    /// Those at most so far away.
    Window(i64),
    /// Itself and those before it.
    Causal,
    /// Itself and those before it that are at most so far away.
    CausalWindow(i64),
}

impl Seen {
    /// How far a token sees before itself and behind itself; all the way below 0.
    pub(super) fn bounds(self) -> (i64, i64) {
        match self {
            Self::All => (-1, -1),
            Self::Window(reach) => (reach, reach),
            Self::Causal => (-1, 0),
            Self::CausalWindow(reach) => (reach, 0),
        }
    }

    /// The same for sequences of at most `longest` tokens: a window over all of them is none.
    pub(super) fn within(self, longest: i64) -> Self {
        match self {
            Self::Window(reach) if longest <= reach + 1 => Self::All,
            Self::CausalWindow(reach) if longest <= reach + 1 => Self::Causal,
            other => other,
        }
    }
}
