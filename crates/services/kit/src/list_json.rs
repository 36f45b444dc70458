//! The envelope of a list: `items`, `page`, `perPage`, `totalItems`, `totalPages` (CONTRACT §1.11).

use std::fmt::Write as _;

/// Which page a list is, and out of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The page, from 1.
    pub page: u64,
    /// Items on a full page.
    pub per_page: u32,
    /// All items there are; `None` when they were not counted, which is written as -1.
    pub total_items: Option<u64>,
}

impl Page {
    /// How many pages there are; 0 when there is nothing.
    pub fn total_pages(&self) -> Option<u64> {
        self.total_items.map(|total| total.div_ceil(u64::from(self.per_page.max(1))))
    }
}

/// Appends a list, writing each item by `write_item`.
pub fn write_list<T>(
    page: Page,
    items: impl IntoIterator<Item = T>,
    mut write_item: impl FnMut(T, &mut String),
    out: &mut String,
) {
    out.push_str("{\"items\":[");
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_item(item, out);
    }
    let _ = write!(out, "],\"page\":{},\"perPage\":{}", page.page, page.per_page);
    match (page.total_items, page.total_pages()) {
        (Some(items), Some(pages)) => {
            let _ = write!(out, ",\"totalItems\":{items},\"totalPages\":{pages}}}");
        }
        _ => out.push_str(",\"totalItems\":-1,\"totalPages\":-1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str], total_items: Option<u64>) -> String {
        let mut out = String::new();
        let page = Page { page: 2, per_page: 3, total_items };
        write_list(page, items, |item, out| out.push_str(item), &mut out);
        out
    }

    #[test]
    fn the_envelope_is_the_contracts() {
        assert_eq!(
            list(&["1", "2"], Some(7)),
            r#"{"items":[1,2],"page":2,"perPage":3,"totalItems":7,"totalPages":3}"#
        );
        assert_eq!(list(&[], Some(0)), r#"{"items":[],"page":2,"perPage":3,"totalItems":0,"totalPages":0}"#);
        assert_eq!(list(&[], None), r#"{"items":[],"page":2,"perPage":3,"totalItems":-1,"totalPages":-1}"#);
    }
}
