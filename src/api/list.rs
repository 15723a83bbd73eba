//! Lists: how pages are asked for, and how they look.

use std::str::FromStr;

use serde::Serialize;

use super::query::Query;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, Result};
use crate::domain::page::{Order, Page, PageRequest};

/// The bounds of a list's `limit`.
pub(super) struct Limit {
    pub(super) default: u32,
    pub(super) max: u32,
}

/// Reads `after` and `limit`.
///
/// # Errors
/// One of them is malformed; the error names it.
pub(super) fn window<After: FromStr>(query: &Query, limit: &Limit) -> Result<(Option<After>, u32)> {
    let after = match query.value("after") {
        None => None,
        Some(text) => {
            let parsed = text.parse().map_err(|_| {
                Error::invalid(
                    "after",
                    format!("Invalid value for 'after': '{}' is no id of an item of this list.", clipped(text)),
                )
            })?;
            Some(parsed)
        }
    };
    Ok((after, count(query, limit)?))
}

/// How many items are wanted.
///
/// # Errors
/// It is no number within the limit.
pub(super) fn count(query: &Query, limit: &Limit) -> Result<u32> {
    let max = limit.max;
    match query.value("limit") {
        None => Ok(limit.default),
        Some(text) => text.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(|| {
            Error::invalid(
                "limit",
                format!("Invalid value for 'limit': '{}'. Allowed: an integer from 1 to {max}.", clipped(text)),
            )
        }),
    }
}

/// Reads `after`, `limit` and `order`.
///
/// # Errors
/// One of them is malformed; the error names it.
pub(super) fn page<After: FromStr>(query: &Query, limit: &Limit, order: Order) -> Result<PageRequest<After>> {
    let (after, limit) = window(query, limit)?;
    let order = match query.value("order") {
        None => order,
        Some("asc") => Order::Ascending,
        Some("desc") => Order::Descending,
        Some(text) => {
            let text = clipped(text);
            let message = format!("Invalid value for 'order': '{text}'. Allowed: asc, desc.");
            return Err(Error::invalid("order", message));
        }
    };
    Ok(PageRequest { after, limit, order })
}

/// An item that a list can name as its first or last.
pub(super) trait Item {
    fn id(&self) -> &str;
}

/// A page as the SDKs expect it: they stop on `has_more`, else ask for what is after the last item's id.
#[derive(Serialize)]
pub(super) struct List<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<T: Item> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        let id = |item: Option<&T>| item.map(|item| item.id().to_owned());
        Self {
            object: "list",
            first_id: id(page.items.first()),
            last_id: id(page.items.last()),
            has_more: page.has_more,
            data: page.items,
        }
    }
}

impl<T: Item> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Page { items, has_more: false }.into()
    }
}
