//! Keyset pages: `limit` items after the item called `after`.

/// Which way a list runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

/// One page as asked for; `After` is the identifier of the last item of the page before.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<After> {
    pub after: Option<After>,
    pub limit: u32,
    pub order: Order,
}

impl<After> PageRequest<After> {
    /// The rows to ask the database for: one more than fits tells whether there are more.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The same page, by another kind of identifier.
    pub fn map<Other>(self, other: impl FnOnce(After) -> Other) -> PageRequest<Other> {
        PageRequest { after: self.after.map(other), limit: self.limit, order: self.order }
    }
}

/// One page as found.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_more: bool,
}

impl<T> Page<T> {
    /// From up to `limit + 1` rows.
    pub fn from_rows(mut rows: Vec<T>, limit: u32) -> Self {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Self { items: rows, has_more }
    }

    /// The same page of other things.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), has_more: self.has_more }
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn one_row_over_the_limit_means_there_are_more() {
        assert!(!Page::from_rows(vec![1, 2], 2).has_more);
        let page = Page::from_rows(vec![1, 2, 3], 2);
        assert!(page.has_more);
        assert_eq!(page.items, [1, 2]);
    }
}
