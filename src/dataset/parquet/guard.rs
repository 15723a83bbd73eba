//! What of a Parquet file is looked at before its reader may trust it: how deep its columns lie, and what each of its
//! pages unpacks to. The reader makes room for whatever a page's header says.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::thrift::{Compact, DAMAGED, LIST, STRUCT};

const MAGIC: &[u8; 4] = b"PAR1";

/// The largest footer, in bytes; it is held while the file is read.
const MOST_FOOTER: u64 = 16 << 20;

/// How deep columns may lie in each other.
const DEEPEST: usize = 16;

/// What the largest pages of all columns may unpack to together, in bytes. Writers aim at 1 MiB a page.
const MOST_PAGES: u64 = 256 << 20;

/// A page header is hardly larger than some hundred bytes, but for statistics.
const MOST_HEADER: u64 = 64 << 10;

/// Checks the footer, and says where it begins.
///
/// # Errors
/// The file cannot be read. The inner error says what is wrong with it.
pub(super) fn footer(file: &mut File) -> io::Result<Result<u64, String>> {
    const TAIL: u64 = 8;
    let length = file.metadata()?.len();
    if length < TAIL + MAGIC.len() as u64 {
        return Ok(Err(DAMAGED.to_owned()));
    }
    file.seek(SeekFrom::End(-(TAIL.cast_signed())))?;
    let mut tail = [0; TAIL as usize];
    file.read_exact(&mut tail)?;
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if &tail[4..] == b"PARE" {
        return Ok(Err("the Parquet file is encrypted; write it without encryption".to_owned()));
    }
    if &tail[4..] != MAGIC || footer > length - TAIL {
        return Ok(Err("the Parquet file is damaged or ends early: it has no footer".to_owned()));
    }
    if footer > MOST_FOOTER {
        return Ok(Err(format!("the Parquet file's footer is larger than {} MiB", MOST_FOOTER >> 20)));
    }
    let start = length - TAIL - footer;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(footer).read_to_end(&mut bytes)?;
    Ok(match depth(&bytes) {
        Some(depth) if depth <= DEEPEST => Ok(start),
        Some(_) => Err(format!("the Parquet file's columns lie more than {DEEPEST} deep in each other")),
        None => Err(DAMAGED.to_owned()),
    })
}

/// Whether the last of several files that were put together is what the footer describes: its places count from its own
/// beginning, which then is not that of the file. `footer` is where that begins.
///
/// # Errors
/// The file cannot be read.
pub(super) fn is_behind_another(file: &mut File, footer: u64, groups: &[RowGroupMetaData]) -> io::Result<bool> {
    let end = groups.iter().flat_map(RowGroupMetaData::columns).flat_map(ends).max().unwrap_or(MAGIC.len() as u64);
    let before = footer.saturating_sub(end);
    // A file begins and ends with its magic bytes, and the last one begins where the first ended.
    if before < 2 * MAGIC.len() as u64 {
        return Ok(false);
    }
    let mut seam = [0; 8];
    file.seek(SeekFrom::Start(before - MAGIC.len() as u64))?;
    Ok(file.read_exact(&mut seam).is_ok() && &seam == b"PAR1PAR1")
}

/// Where what belongs to a column ends: its pages, and what is written about them.
fn ends(column: &ColumnChunkMetaData) -> impl Iterator<Item = u64> {
    let about = [
        (column.column_index_offset(), column.column_index_length()),
        (column.offset_index_offset(), column.offset_index_length()),
        (column.bloom_filter_offset(), column.bloom_filter_length()),
    ];
    let about = about
        .into_iter()
        .filter_map(|(start, length)| Some(u64::try_from(start?).ok()?.saturating_add(u64::try_from(length?).ok()?)));
    about.chain(pages_of(column).map(|(start, size)| start.saturating_add(size)))
}

/// Where a column's pages begin, and how many bytes they have; None of a place that is none.
pub(super) fn pages_of(column: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    Some((u64::try_from(start).ok()?, u64::try_from(column.compressed_size()).ok()?))
}

/// How deep the columns lie: the schema is a list of elements in depth-first order, each with its number of children.
fn depth(footer: &[u8]) -> Option<usize> {
    let (mut open, mut deepest) = (Vec::<i64>::new(), 0);
    Compact::new(footer).fields(|compact, id, kind| {
        if id != 2 || kind != LIST {
            return Some(false);
        }
        let (kind, elements) = compact.list()?;
        for _ in 0..elements {
            let mut children = 0;
            if kind != STRUCT {
                return None;
            }
            compact.fields(|compact, id, _| {
                let wanted = id == 5;
                if wanted {
                    children = compact.integer()?;
                }
                Some(wanted)
            })?;
            while open.pop_if(|left| *left == 0).is_some() {}
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            open.push(children.max(0));
            deepest = deepest.max(open.len());
            if deepest > DEEPEST {
                break;
            }
        }
        (deepest > DEEPEST).then_some(()).map_or(Some(true), |()| None)
    });
    // Where it was left early, it was because of the depth.
    (deepest > 0).then_some(deepest)
}

/// Checks the pages of a row group's columns, which lie at these places: where they start, and how many bytes they have.
///
/// # Errors
/// As above.
pub(super) fn pages(file: &mut File, columns: &[(u64, u64)]) -> io::Result<Result<(), String>> {
    let mut together: u64 = 0;
    for &(start, length) in columns {
        match largest_page(file, start, start.saturating_add(length))? {
            Some(largest) => together = together.saturating_add(largest),
            None => return Ok(Err(DAMAGED.to_owned())),
        }
        if together > MOST_PAGES {
            let most = MOST_PAGES >> 20;
            let message =
                format!("the Parquet file's pages unpack to more than {most} MiB at once; write it with smaller pages");
            return Ok(Err(message));
        }
    }
    Ok(Ok(()))
}

/// What the largest page unpacks to, in bytes, its dictionary's added; None where the headers make no sense.
fn largest_page(file: &mut File, start: u64, end: u64) -> io::Result<Option<u64>> {
    const DICTIONARY: i64 = 2;
    let (mut at, mut largest, mut dictionaries, mut bytes) = (start, 0, 0_u64, Vec::new());
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        bytes.clear();
        file.by_ref().take(MOST_HEADER.min(end - at)).read_to_end(&mut bytes)?;
        let (mut kind, mut unpacked, mut packed) = (-1, -1, -1);
        let mut header = Compact::new(&bytes);
        let read = header.fields(|compact, id, _| {
            match id {
                1 => kind = compact.integer()?,
                2 => unpacked = compact.integer()?,
                3 => packed = compact.integer()?,
                _ => return Some(false),
            }
            Some(true)
        });
        let (Some(()), Ok(unpacked), Ok(packed)) = (read, u64::try_from(unpacked), u64::try_from(packed)) else {
            return Ok(None);
        };
        if kind == DICTIONARY {
            dictionaries = dictionaries.saturating_add(unpacked);
        } else {
            largest = largest.max(unpacked);
        }
        at = at.saturating_add(header.at() as u64).saturating_add(packed);
    }
    Ok((at == end).then_some(dictionaries.saturating_add(largest)))
}
