//! Pages as they are read: no more of a page is held than fits into an answer.

use futures_util::{Stream, TryStreamExt};

use crate::domain::error::Result;
use crate::domain::page::Page;

/// The most bytes that the rows of one page hold in columns of any length. A page has one row at least.
const MOST_BYTES: u64 = 8 << 20;

/// A page of at most `limit` of the rows, which are asked for with one more. It ends early where the rows are large,
/// and says that there are more. `bytes` is how large a row is.
pub(super) async fn collect<R, T>(
    rows: impl Stream<Item = sqlx::Result<R>>,
    limit: u32,
    bytes: impl Fn(&R) -> i64,
    read: impl Fn(R) -> Result<T>,
) -> Result<Page<T>> {
    let mut rows = std::pin::pin!(rows);
    let (mut items, mut held) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        held += bytes(&row).unsigned_abs();
        if items.len() == limit as usize || (held > MOST_BYTES && !items.is_empty()) {
            return Ok(Page { items, has_more: true });
        }
        items.push(read(row)?);
    }
    Ok(Page { items, has_more: false })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::{MOST_BYTES, collect};

    #[tokio::test]
    async fn a_page_ends_at_its_limit_or_at_its_bytes() {
        let page = async |sizes: &[i64], limit| {
            let rows = stream::iter(sizes.iter().copied().map(Ok));
            let page = collect(rows, limit, |&size| size, Ok).await.unwrap();
            (page.items.len(), page.has_more)
        };
        assert_eq!(page(&[1, 1], 2).await, (2, false));
        assert_eq!(page(&[1, 1, 1], 2).await, (2, true));
        let half = MOST_BYTES as i64 / 2;
        assert_eq!(page(&[half, half, 1, 1], 3).await, (2, true));
        assert_eq!(page(&[3 * half, 1], 3).await, (1, true));
        assert_eq!(page(&[3 * half], 3).await, (1, false));
        assert_eq!(page(&[], 3).await, (0, false));
    }
}
