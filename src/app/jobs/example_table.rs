//! The stored statistics of a run's training examples, read by parts: a page of a million examples takes a few megabytes.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::TryStreamExt;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::app::App;
use crate::app::objects::Object;
use crate::domain::error::{Error, Result};
use crate::domain::example::columns::{
    FILE_ENDS, FILES, LABEL, LABEL_ENDS, LABELS, LINE, STATISTICS, VALUE, read, values,
};
use crate::domain::example::{ExampleOrder, ExampleStatistics, Rank};
use crate::domain::report::Place;

/// The most bytes of the part of the file that says what is in it: a few hundred are written.
const MOST_HEADER: u64 = 64 << 10;

/// Examples whose statistics are in memory at once, about 40 bytes each.
const BLOCK: u64 = 1 << 17;

/// The file of statistics as it is stored.
pub(super) struct Table<'a> {
    app: &'a App,
    object: Object<'a>,
    columns: Metadata,
    /// Where the columns begin.
    start: u64,
    /// The number of examples.
    pub(super) examples: u64,
}

/// What an example is labelled, by the numbers of labels.
pub(super) enum Labelled {
    One(u32),
    Several(Vec<u32>),
    Value(f64),
}

impl<'a> Table<'a> {
    /// Reads what is in the file.
    ///
    /// # Errors
    /// It is no such file, it is damaged, or the store is away.
    pub(super) async fn open(app: &'a App, object: Object<'a>) -> Result<Self> {
        let length = part(app, object, 0, 8).await?;
        let length = values::<8>(&length).first().map_or(0, |&bytes| u64::from_le_bytes(bytes));
        if length > MOST_HEADER {
            return Err(malformed());
        }
        let header = part(app, object, 8, length).await?;
        let columns: Metadata = serde_json::from_slice(&header).map_err(Error::internal)?;
        let examples = columns.info(LINE).and_then(|info| info.shape.first()).ok_or_else(malformed)?;
        Ok(Self { app, object, examples: *examples as u64, columns, start: 8 + length })
    }

    /// Whether the examples have labels, and so margins; else they have values.
    pub(super) fn has_labels(&self) -> bool {
        self.columns.info(VALUE).is_none()
    }

    /// The bytes of these values of a column; None where there is no such column.
    async fn bytes(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        let Some(TensorInfo { dtype, data_offsets: (start, end), .. }) = self.columns.info(name) else {
            return Ok(None);
        };
        let (width, length) = (dtype.bitsize() as u64 / 8, (end - start) as u64);
        if range.start > range.end || range.end > length / width {
            return Err(malformed());
        }
        let bytes = (range.end - range.start) * width;
        if bytes == 0 {
            return Ok(Some(Vec::new()));
        }
        part(self.app, self.object, self.start + *start as u64 + range.start * width, bytes).await.map(Some)
    }

    /// One value of a column.
    async fn value<const WIDTH: usize>(&self, name: &str, at: u64) -> Result<Option<[u8; WIDTH]>> {
        let Some(bytes) = self.bytes(name, at..at + 1).await? else { return Ok(None) };
        values(&bytes).first().copied().map(Some).ok_or_else(malformed)
    }

    /// Where the values of an example lie in a column of values end to end; None where there is no such column.
    async fn run(&self, ends: &str, example: u64) -> Result<Option<Range<u64>>> {
        let Some(bytes) = self.bytes(ends, example.saturating_sub(1)..example + 1).await? else { return Ok(None) };
        let ends = values::<8>(&bytes);
        let end = |at: Option<&[u8; 8]>| at.map(|&bytes| u64::from_le_bytes(bytes)).ok_or_else(malformed);
        let start = if example == 0 { 0 } else { end(ends.first())? };
        Ok(Some(start..end(ends.last())?))
    }

    async fn statistics(&self, range: Range<u64>) -> Result<Vec<ExampleStatistics>> {
        let mut columns = BTreeMap::new();
        for name in STATISTICS {
            if let Some(bytes) = self.bytes(name, range.clone()).await? {
                columns.insert(name, bytes);
            }
        }
        let expected = range.end - range.start;
        read(&columns).filter(|read| read.len() as u64 == expected).ok_or_else(malformed)
    }

    /// Where an example stands in an order; None where there is no such example.
    pub(super) async fn rank(&self, order: ExampleOrder, example: u64) -> Result<Option<Rank>> {
        if example >= self.examples {
            return Ok(None);
        }
        Ok(self.statistics(example..example + 1).await?.first().map(|found| order.rank(example, found)))
    }

    /// The first `most` examples in an order, or the first ones after `after`.
    pub(super) async fn first(
        &self,
        order: ExampleOrder,
        after: Option<Rank>,
        most: usize,
    ) -> Result<BTreeMap<Rank, ExampleStatistics>> {
        let mut first = BTreeMap::new();
        let mut start = 0;
        while start < self.examples {
            let end = (start + BLOCK).min(self.examples);
            for (number, found) in (start..).zip(self.statistics(start..end).await?) {
                let rank = order.rank(number, &found);
                let is_full = first.len() >= most;
                let is_last = is_full && first.last_key_value().is_some_and(|(last, _)| rank > *last);
                if is_last || after.is_some_and(|after| rank <= after) {
                    continue;
                }
                first.insert(rank, found);
                if is_full {
                    first.pop_last();
                }
            }
            start = end;
        }
        Ok(first)
    }

    /// Where an example stands in its file.
    pub(super) async fn place(&self, example: u64) -> Result<Place> {
        let line = self.value(LINE, example).await?.map(u64::from_le_bytes).ok_or_else(malformed)?;
        let Some(range) = self.run(FILE_ENDS, example).await? else { return Ok(Place { line, member: None }) };
        let name = self.bytes(FILES, range).await?.ok_or_else(malformed)?;
        Ok(Place { line, member: Some(String::from_utf8(name).map_err(Error::internal)?) })
    }

    /// What an example is labelled.
    pub(super) async fn labelled(&self, example: u64) -> Result<Labelled> {
        if let Some(value) = self.value(VALUE, example).await? {
            return Ok(Labelled::Value(f64::from_le_bytes(value)));
        }
        if let Some(label) = self.value(LABEL, example).await? {
            return Ok(Labelled::One(u32::from_le_bytes(label)));
        }
        let range = self.run(LABEL_ENDS, example).await?.ok_or_else(malformed)?;
        let labels = self.bytes(LABELS, range).await?.ok_or_else(malformed)?;
        Ok(Labelled::Several(values(&labels).iter().map(|&label| u32::from_le_bytes(label)).collect()))
    }
}

async fn part(app: &App, object: Object<'_>, start: u64, length: u64) -> Result<Vec<u8>> {
    let stored = object.stored().bytes;
    if start.checked_add(length).is_none_or(|end| end > stored) {
        return Err(malformed());
    }
    let chunks = object.stream(app, Some((start, length))).await?;
    Ok(chunks.try_collect::<Vec<_>>().await?.concat())
}

fn malformed() -> Error {
    Error::internal("a file of statistics is malformed")
}
