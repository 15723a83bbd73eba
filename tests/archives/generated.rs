//! Archives as they come, made by the hundred from seeds: every number of a report adds up, and no image is read whose
//! bytes or label are not the archive's.

use std::collections::BTreeMap;

use finetuned::dataset::entries::Entry;
use finetuned::dataset::{Input, images};
use finetuned::domain::job::OtherFiles;
use finetuned::domain::report::DataFormat;
use tar::EntryType;

use super::packing::{Zipped, tar_member, tar_of, zip};
use super::{assert_adds_up, png};

/// Numbers that follow from a seed (`SplitMix64`: Steele, Lea and Flood 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What is to become of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Read,
    Faulty,
    Skipped(&'static str),
    /// It is no image: passed over and counted as this, or a fault, as a job asks for.
    Other(&'static str),
    /// It is a folder, which nobody counts.
    Nothing,
}

struct Planted {
    name: String,
    data: Vec<u8>,
    fate: Fate,
    /// That of its folder, where it lies in one of a class.
    label: Option<&'static str>,
    is_link: bool,
    is_encrypted: bool,
    is_damaged: bool,
}

impl Planted {
    fn new(name: String, data: &[u8], fate: Fate) -> Self {
        let data = data.to_vec();
        Self { name, data, fate, label: None, is_link: false, is_encrypted: false, is_damaged: false }
    }
}

/// Names of class folders, and the labels that they say.
const CLASSES: [(&str, &str); 10] = [
    ("cats", "cats"),
    ("Cats", "Cats"),
    ("dogs ", "dogs"),
    (" \u{A0}owls", "owls"),
    (".net", ".net"),
    ("cafe\u{301}", "café"),
    ("猫", "猫"),
    ("a b, c", "a b, c"),
    ("class.png", "class.png"),
    ("1", "1"),
];

const LITTER: [&str; 7] = ["Thumbs.db", "thumbs.DB", "._x.png", "@eaDir/x.png", "Icon\r", ".DS_Store", "x.png~"];

struct Archive {
    format: DataFormat,
    is_dos: bool,
    members: Vec<Planted>,
}

/// A name and a picture that no other member of an archive has.
fn picture(numbers: &mut Numbers, seed: u64, count: &mut u32) -> (String, Vec<u8>) {
    *count += 1;
    let name = match numbers.below(5) {
        0 => format!("{count}"),
        1 => format!(".{count}.png"),
        2 => format!("{count}.txt"),
        3 => format!("bild ä {count}.JPG"),
        _ => format!("{count}.png"),
    };
    (name, png((seed as u32) << 8 | *count))
}

impl Archive {
    fn of(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let format = numbers.one_of(&[DataFormat::Zip, DataFormat::Tar]);
        let is_dos = format == DataFormat::Zip && numbers.below(5) == 0;
        let has_splits = numbers.below(4) == 0;
        let root = numbers.one_of(&["", "pets/", "data/pets/", "./"]);
        let split = if has_splits { numbers.one_of(&["train/", "Train/", "training/"]) } else { "" };
        let (above, mut members, mut count) = (format!("{root}{split}"), Vec::new(), 0);
        // Two classes at least, so that none of them is taken for the folder above all.
        let first = numbers.below(CLASSES.len());
        for class in 0..2 + numbers.below(3) {
            let (folder, label) = CLASSES[(first + class) % CLASSES.len()];
            members.push(Planted::new(format!("{above}{folder}/"), b"", Fate::Nothing));
            for _ in 0..=numbers.below(3) {
                let (name, data) = picture(&mut numbers, seed, &mut count);
                let image = Planted::new(format!("{above}{folder}/{name}"), &data, Fate::Read);
                members.push(Planted { label: Some(label), ..image });
            }
        }
        if has_splits {
            for (split, word) in [("VAL", "in val/"), ("test", "in test/")] {
                let (name, data) = picture(&mut numbers, seed, &mut count);
                let class = numbers.one_of(&["cats/", "dogs/", ""]);
                members.push(Planted::new(format!("{root}{split}/{class}{name}"), &data, Fate::Skipped(word)));
            }
        }
        for odd in 0..numbers.below(12) {
            let (name, data) = picture(&mut numbers, seed, &mut count);
            let (folder, label) = CLASSES[first];
            let class = format!("{above}{folder}/");
            let name = format!("{class}odd {odd} {name}");
            let faulty =
                |name: String, data: &[u8]| Planted { label: Some(label), ..Planted::new(name, data, Fate::Faulty) };
            members.push(match numbers.below(14) {
                0 => Planted::new(format!("{class}{}", LITTER[odd % 7]), &data, Fate::Skipped("system file")),
                1 => Planted::new(format!("{name}.csv"), b"a,b\n", Fate::Other("no image (.csv)")),
                2 => Planted::new(format!("README{odd}"), b"words", Fate::Other("no image (no ending)")),
                3 => faulty(format!("{name}.jpg"), b"words"),
                4 => faulty(format!("{name}.gif.bak"), b"GIF89a"),
                5 => faulty(format!("{name}.png"), &data[..data.len() - 20]),
                6 => faulty(format!("{name}.webp"), b""),
                7 => Planted::new(format!("{above}{odd}.png"), &data, Fate::Faulty),
                8 => Planted::new(format!("{class}deeper/{odd}.png"), &data, Fate::Faulty),
                9 => Planted::new(format!("../{name}"), &data, Fate::Faulty),
                10 => Planted { is_link: true, ..faulty(name, &data) },
                11 if format == DataFormat::Zip => Planted { is_encrypted: true, ..faulty(name, &data) },
                12 if format == DataFormat::Zip => Planted { is_damaged: true, ..faulty(name, &data) },
                // The first image's name once more.
                _ => faulty(members[1].name.clone(), &data),
            });
        }
        Self { format, is_dos, members }
    }

    fn bytes(&self, method: u16) -> Vec<u8> {
        if self.format == DataFormat::Tar {
            let tarred = |member: &Planted| {
                let (kind, data) = match member.fate {
                    Fate::Nothing => (EntryType::Directory, &[][..]),
                    _ if member.is_link => (EntryType::Symlink, &[][..]),
                    _ => (EntryType::Regular, member.data.as_slice()),
                };
                tar_member(member.name.as_bytes(), kind, data.len() as u64, data)
            };
            return tar_of(&self.members.iter().map(tarred).collect::<Vec<_>>());
        }
        let separator = if self.is_dos { "\\" } else { "/" };
        let names: Vec<String> = self.members.iter().map(|member| member.name.replace('/', separator)).collect();
        let members: Vec<Zipped<'_>> = self
            .members
            .iter()
            .zip(&names)
            .map(|(member, name)| Zipped {
                method,
                flags: u16::from(member.is_encrypted),
                // MS-DOS has no links.
                system: if self.is_dos && !member.is_link { 0 } else { 3 },
                mode: if member.is_link { 0o120_777 } else { 0o100_644 },
                checksum: member.is_damaged.then_some(1),
                ..Zipped::new(name.as_bytes(), &member.data)
            })
            .collect();
        zip(&members)
    }
}

/// A file with these bytes, and how it is read.
fn input(bytes: &[u8], format: DataFormat, other_files: OtherFiles) -> (tempfile::NamedTempFile, Input) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut input = Input::new(file.path(), format);
    input.options.other_files = Some(other_files);
    (file, input)
}

#[test]
fn what_becomes_of_each_member_is_what_was_planted_and_the_numbers_add_up() {
    let mut seen = BTreeMap::<String, u64>::new();
    for seed in 0..400 {
        let archive = Archive::of(seed);
        let other_files = if seed % 3 == 0 { OtherFiles::Refuse } else { OtherFiles::Skip };
        let (_file, input) = input(&archive.bytes(if seed % 2 == 0 { 0 } else { 8 }), archive.format, other_files);
        for entry in images::read(&input).unwrap() {
            let Entry::Good(image) = entry.unwrap() else { continue };
            let member = &archive.members[image.place.line as usize - 1];
            assert!(image.bytes == member.data, "seed {seed}: {}", member.name);
            assert_eq!(Some(image.label.as_str()), member.label, "seed {seed}: {}", member.name);
        }
        let report = images::report(&input, &mut ()).unwrap();
        assert_adds_up(&report);
        let (mut labels, mut skipped, mut faulty) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (member, line) in archive.members.iter().zip(1..) {
            let fate = match member.fate {
                Fate::Other(_) if other_files == OtherFiles::Refuse => Fate::Faulty,
                Fate::Other(word) => Fate::Skipped(word),
                fate => fate,
            };
            *seen.entry(format!("{fate:?}")).or_default() += 1;
            match fate {
                Fate::Read => *labels.entry(member.label.unwrap().to_owned()).or_default() += 1,
                Fate::Skipped(word) => *skipped.entry(word.to_owned()).or_default() += 1,
                Fate::Faulty => faulty.push(line),
                Fate::Other(_) | Fate::Nothing => {}
            }
        }
        let found: Vec<u64> = report.faults.listed.iter().map(|fault| fault.line).collect();
        assert_eq!(found, faulty, "seed {seed}: {}", report.faults.summary());
        assert_eq!(*report.labels(), labels, "seed {seed}");
        let counts = report.counts.unwrap();
        assert_eq!(counts.skipped, skipped, "seed {seed}");
        let files = archive.members.iter().filter(|member| member.fate != Fate::Nothing).count();
        assert_eq!(counts.rows, files as u64, "seed {seed}");
    }
    assert_eq!(seen.len(), 8, "everything was planted: {seen:?}");
}

#[test]
fn of_a_damaged_archive_no_image_is_read_that_was_not_in_it() {
    let mut read = 0;
    for seed in 1000..1150 {
        let archive = Archive::of(seed);
        let bytes = archive.bytes(if seed % 2 == 0 { 0 } else { 8 });
        let mut numbers = Numbers(seed);
        for _ in 0..12 {
            let mut damaged = bytes.clone();
            // Only in a zip archive have contents checksums.
            if archive.format == DataFormat::Zip && numbers.below(4) > 0 {
                let at = numbers.below(damaged.len());
                damaged[at] ^= 1 << numbers.below(8);
            } else {
                damaged.truncate(numbers.below(damaged.len()));
            }
            let (_file, input) = input(&damaged, archive.format, OtherFiles::Skip);
            for entry in images::read(&input).unwrap() {
                let Entry::Good(image) = entry.unwrap() else { continue };
                read += 1;
                let is_planted = |member: &Planted| {
                    image.bytes == member.data && member.label.is_none_or(|label| image.label == label)
                };
                assert!(archive.members.iter().any(is_planted), "seed {seed}: {image:?}");
            }
            assert_adds_up(&images::survey(&input).unwrap());
        }
    }
    assert!(read > 1000, "{read} images of damaged archives were read");
}
