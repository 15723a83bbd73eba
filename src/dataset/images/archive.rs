//! Images from an archive, whatever kind it is of. Its members are walked twice: first their names, and the first bytes of
//! those that do not call themselves images, to see where the classes lie; then the images.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;

use sha2::{Digest, Sha256};

use super::ImageExample;
use super::folders::{Folders, MAX_FOLDERS};
use super::layout::{Belongs, Layout};
use super::names::{Named, ending, named, shown};
use super::others::Others;
use super::sniff::{ImageKind, Other, is_image_ending};
use crate::dataset::Input;
use crate::dataset::entries::{Ending, Entries, Entry, Ledger, Step, further, good, nothing_but};
use crate::dataset::label::label;
use crate::domain::job::OtherFiles;
use crate::domain::report::{Fault, Note, Place};

/// What is counted of files that systems left behind.
const LITTER: &str = "system file";

/// A member of an archive. `P` is where its content lies, and how.
pub(super) struct Member<P> {
    pub(super) place: Place,
    pub(super) name: Name,
    pub(super) kind: MemberKind,
    pub(super) packed: P,
}

/// The name of a member with "/" between its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Or why it cannot be read.
    pub(super) text: Result<String, String>,
    /// Whether its characters were taken from MS-DOS's table.
    pub(super) is_dos_text: bool,
    /// Whether backslashes stood between its parts.
    pub(super) is_dos_path: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Folder,
    /// What it is, behind "is".
    Other(&'static str),
}

/// Why the content of a member is not there.
pub(super) enum Unreadable {
    /// What is wrong with it.
    Member(String),
    /// What is wrong with the archive, so that nothing behind it can be read.
    Archive(String),
}

/// A kind of archive.
pub(super) trait Archive: 'static {
    type Packed: 'static;

    /// The members, from the first. A fault of the archive itself ends them.
    fn members(&self) -> io::Result<Entries<Member<Self::Packed>>>;

    /// The first bytes of a member, up to [`super::sniff::HEAD_BYTES`], or what is wrong with it.
    fn head(&mut self, packed: &Self::Packed) -> io::Result<Result<Vec<u8>, String>>;

    /// All bytes of a member, at most [`super::MAX_IMAGE_BYTES`].
    fn content(&mut self, packed: &Self::Packed) -> io::Result<Result<Vec<u8>, Unreadable>>;
}

/// What a member is, before it is read.
enum Judged<'a> {
    Folder,
    Litter,
    Faulty(String),
    /// A file that is no image: what its name ends in, and what it is, where that is known.
    NoImage(Option<String>, Option<Other>),
    /// A file that is an image or calls itself one: its folders and its name.
    Image(Vec<&'a str>),
}

/// A file is an image if its name says so, so that one that is damaged is not passed over, or if its content does.
fn judge<'a, A: Archive>(archive: &mut A, member: &'a Member<A::Packed>) -> io::Result<Judged<'a>> {
    if member.kind == MemberKind::Folder {
        return Ok(Judged::Folder);
    }
    let parts = match member.name.text.as_deref().map_err(Clone::clone).and_then(named) {
        Ok(Named::File(parts)) => parts,
        Ok(Named::Folder) => return Ok(Judged::Folder),
        Ok(Named::Litter) => return Ok(Judged::Litter),
        Err(message) => return Ok(Judged::Faulty(message)),
    };
    if let MemberKind::Other(what) = member.kind {
        return Ok(Judged::Faulty(format!("is {what}; only files and folders are read")));
    }
    let ending = parts.last().and_then(|file| ending(file));
    if ending.as_deref().is_some_and(is_image_ending) {
        return Ok(Judged::Image(parts));
    }
    Ok(match archive.head(&member.packed)? {
        Err(message) => Judged::Faulty(message),
        Ok(head) => match (ImageKind::by_magic(&head), Other::of(&head)) {
            (None, other) if other.is_none_or(|other| !other.is_image) => Judged::NoImage(ending, other),
            _ => Judged::Image(parts),
        },
    })
}

/// See [`super::read`].
pub(super) fn read<A: Archive>(mut archive: A, input: &Input) -> io::Result<Entries<ImageExample>> {
    let (mut folders, mut others, mut names) = (Folders::default(), Others::default(), Names::default());
    let (mut ledger, mut is_faulty) = (Ledger::default(), false);
    // What is wrong is told by the second walk.
    for member in good(archive.members()?, &mut ledger) {
        let member = member?;
        names.add(&member.name);
        match judge(&mut archive, &member)? {
            Judged::Folder => {}
            Judged::Litter => others.add_litter(),
            Judged::Faulty(_) => is_faulty = true,
            Judged::NoImage(ending, other) => others.add(ending, other, &member.place),
            Judged::Image(parts) if folders.add(&parts[..parts.len() - 1]) => {}
            Judged::Image(_) => {
                let message = format!("the archive has images in more than {MAX_FOLDERS} folders");
                return Ok(nothing_but(Fault::new(1, None, message)));
            }
        }
    }
    let mut layout = match Layout::of(&folders.top) {
        Ok(layout) => layout,
        Err(message) => return Ok(nothing_but(Fault::new(1, None, message))),
    };
    is_faulty |= !ledger.faults.is_empty();
    let is_without_images = !is_faulty && folders.top.all_images() == 0;
    let last = is_without_images.then(|| Ok(Entry::Broken(Fault::new(1, None, others.instead_of_images()))));
    let other_files = input.options.other_files.unwrap_or_default();
    let mut notes = std::mem::take(&mut layout.notes);
    notes.extend(names.notes());
    notes.extend(others.note().filter(|_| other_files == OtherFiles::Skip));
    let members = archive.members()?;
    let mut images = Images { archive, layout, others, other_files, seen: HashSet::new() };
    let end = Entry::End(Box::new(Ending { lines: None, notes }));
    let mut is_over = false;
    let entries = further(members, move |member| images.image(member)).chain(last).chain([Ok(end)]);
    Ok(Box::new(entries.take_while(move |entry| {
        // Nothing follows an error, or a fault behind which nothing can be read.
        let goes_on = !is_over;
        is_over = matches!(entry, Err(_) | Ok(Entry::Broken(_)));
        goes_on
    })))
}

/// The images among the members.
struct Images<A> {
    archive: A,
    layout: Layout,
    others: Others,
    other_files: OtherFiles,
    /// Names that stood before: 128 bits of SHA-256, so that a million of them take little room.
    seen: HashSet<[u8; 16]>,
}

impl<A: Archive> Images<A> {
    fn image(&mut self, member: Member<A::Packed>) -> io::Result<Step<ImageExample>> {
        let fault = |message: String| Fault::at(&member.place, None, message);
        let skipped = |what: Cow<'static, str>| Ok(Step::To(Entry::Skipped(what)));
        let parts = match judge(&mut self.archive, &member)? {
            Judged::Folder => return Ok(Step::PassOver),
            Judged::Litter => return skipped(LITTER.into()),
            Judged::Faulty(message) => return Ok(Step::faulty(fault(message))),
            Judged::NoImage(ending, _) if self.other_files == OtherFiles::Skip => {
                return skipped(self.others.word(ending.as_deref()));
            }
            Judged::NoImage(_, other) => {
                let what = other.map_or("no image", |other| other.name);
                let message = format!("is {what}; dataset.other_files \"skip\" passes over files that are no images");
                return Ok(Step::faulty(fault(message)));
            }
            Judged::Image(parts) => parts,
        };
        if !self.is_first(&parts) {
            return Ok(Step::faulty(fault("its name stands more than once in the archive".to_owned())));
        }
        let label = match self.layout.place(&parts) {
            Ok(Belongs::To(class)) => label(class).map_err(|message| format!("the name of its class folder {message}")),
            Ok(Belongs::ToSplit(split)) => return skipped(format!("in {split}/").into()),
            Err(message) => Err(message),
        };
        let label = match label {
            Ok(label) => label,
            Err(message) => return Ok(Step::faulty(fault(message))),
        };
        Ok(match self.archive.content(&member.packed)? {
            Ok(bytes) => {
                Step::good(ImageExample { place: member.place, label: label.text, is_tidied: label.is_tidied, bytes })
            }
            Err(Unreadable::Member(message)) => Step::faulty(fault(message)),
            Err(Unreadable::Archive(message)) => Step::End(fault(message)),
        })
    }

    fn is_first(&mut self, parts: &[&str]) -> bool {
        let digest = Sha256::digest(parts.join("/").as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        self.seen.insert(short)
    }
}

/// How the names of members were read, where they do not say so themselves.
#[derive(Default)]
struct Names {
    dos_texts: u64,
    dos_paths: u64,
    /// The first of the former.
    example: Option<String>,
}

impl Names {
    fn add(&mut self, name: &Name) {
        self.dos_texts += u64::from(name.is_dos_text);
        self.dos_paths += u64::from(name.is_dos_path);
        if name.is_dos_text && self.example.is_none() {
            self.example = name.text.as_ref().ok().map(|text| shown(text.as_bytes()));
        }
    }

    fn notes(self) -> impl Iterator<Item = Note> {
        let example = self.example.unwrap_or_default();
        let text = (self.dos_texts > 0).then(|| {
            let message = format!(
                "The character set of {} of the names is not said; they were read in MS-DOS's (code page 437), such as \
                 \"{example}\". If that is wrong, pack the files again with names in UTF-8.",
                self.dos_texts
            );
            Note::warning("names_in_code_page_437", message)
        });
        let path = (self.dos_paths > 0).then(|| {
            let message =
                format!("Backslashes were read as separators of folders, in {} of the names.", self.dos_paths);
            Note::info("names_with_backslashes", message)
        });
        text.into_iter().chain(path)
    }
}
