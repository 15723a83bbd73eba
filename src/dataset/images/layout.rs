//! Which of an archive's folders are classes: those right above the images, below one folder that holds everything, or
//! below `train/` where splits lie side by side.

use super::folders::Folder;
use super::names::shown;
use crate::dataset::row::listed;
use crate::domain::report::Note;

/// The parts of a data set that people keep in folders beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    Train,
    Validation,
    Test,
}

/// What such folders are called, in any letter case: torchvision's and Hugging Face datasets' words, and their like.
const SPLITS: [(&str, Split); 10] = [
    ("train", Split::Train),
    ("training", Split::Train),
    ("val", Split::Validation),
    ("valid", Split::Validation),
    ("validation", Split::Validation),
    ("dev", Split::Validation),
    ("eval", Split::Validation),
    ("evaluation", Split::Validation),
    ("test", Split::Test),
    ("testing", Split::Test),
];

/// How many folders a message names.
const MOST_NAMED: usize = 5;

/// What folders are called that say no more than that images are in them, or what stands beside images.
const CONTENTS: [&str; 20] = [
    "image",
    "images",
    "img",
    "imgs",
    "jpegimages",
    "picture",
    "pictures",
    "photo",
    "photos",
    "set",
    "data",
    "dataset",
    "seg",
    "split",
    "mask",
    "masks",
    "annotations",
    "labels",
    "labeled",
    "unlabeled",
];

/// The words in a folder's name, without the numbers at their ends: `train2017`, `test_images`, `training-set`.
fn words(folder: &str) -> Vec<String> {
    let words = folder.split(['_', '-', ' ', '.']).map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()));
    words.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// The split that a folder is called after, with nothing in its name that could be a class.
fn split_of(folder: &str) -> Option<Split> {
    let mut telling = words(folder).into_iter().filter(|word| !CONTENTS.contains(&word.as_str()));
    let word = telling.next().filter(|_| telling.next().is_none())?;
    SPLITS.into_iter().find(|(name, _)| *name == word).map(|(_, split)| split)
}

/// Whether a folder's name says nothing of what its images show.
fn says_nothing(folder: &str) -> bool {
    let words = words(folder);
    split_of(folder).is_some() || !words.is_empty() && words.iter().all(|word| CONTENTS.contains(&word.as_str()))
}

/// Where an image belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Belongs<'a> {
    /// To the class of this folder.
    To(&'a str),
    /// To a split that is not read, called so.
    ToSplit(String),
}

/// Where the classes of an archive lie.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The folders above all others.
    root: Vec<String>,
    /// The folder below them whose classes are read, where there are splits.
    split: Option<String>,
    pub(super) notes: Vec<Note>,
}

impl Layout {
    /// The layout of an archive whose images lie in these folders.
    ///
    /// # Errors
    /// None of its images can be read, or it could be read in two ways; in words for its owner.
    pub(super) fn of(top: &Folder) -> Result<Self, String> {
        let (mut root, mut at) = (Vec::new(), top);
        // Archivers put the folder that was packed in front of what it holds.
        while at.folders.len() == 1
            && let Some((name, only)) = at.folders.first_key_value().filter(|(_, only)| !only.folders.is_empty())
        {
            root.push(name.clone());
            at = only;
        }
        let split = split(at)?;
        let classes = split.as_ref().and_then(|name| at.folders.get(name)).unwrap_or(at);
        if classes.all_images() > 0 && !classes.has_classes() {
            let above = root.iter().chain(&split).map(String::as_str).collect();
            return Err(no_classes(classes, above));
        }
        let mut notes: Vec<Note> = split.as_ref().map(|name| not_read(at, name)).into_iter().collect();
        notes.extend(if split.is_some() { None } else { splits_as_classes(at) });
        notes.extend(hidden(classes));
        Ok(Self { root, split, notes })
    }

    /// Where an image belongs, by its folders and its own name.
    ///
    /// # Errors
    /// What is wrong with where it lies.
    pub(super) fn place<'a>(&self, parts: &[&'a str]) -> Result<Belongs<'a>, String> {
        let shared = self.root.iter().zip(parts).take_while(|(root, part)| root == *part).count();
        let mut below = &parts[shared.min(parts.len().saturating_sub(1))..];
        if let Some(split) = self.split.as_deref().filter(|_| shared == self.root.len()) {
            match below {
                [first, rest @ ..] if *first == split && !rest.is_empty() => below = rest,
                [first, _, ..] => return Ok(Belongs::ToSplit(first.to_ascii_lowercase())),
                _ => {}
            }
        }
        let within = self.split.as_deref().map(|split| format!("{}/", shown(split.as_bytes()))).unwrap_or_default();
        match below {
            [class, _] if shared == self.root.len() => Ok(Belongs::To(class)),
            [] | [_] => Err(format!("lies in no class folder; expected {within}class/image")),
            _ => Err(format!("lies too deep; expected {within}class/image, or that below one folder for everything")),
        }
    }
}

/// The folder whose classes are read, where there are splits.
fn split(at: &Folder) -> Result<Option<String>, String> {
    let (splits, others): (Vec<_>, Vec<_>) = at.folders.iter().partition(|(name, _)| split_of(name).is_some());
    let with_classes = splits.iter().any(|(_, folder)| !folder.folders.is_empty());
    let names = |folders: &[(&String, &Folder)]| slashed(folders.iter().map(|(name, _)| name.as_str()));
    if let Some((first, _)) = at.folders.first_key_value()
        && at.folders.iter().all(|(name, folder)| folder.folders.is_empty() && says_nothing(name))
    {
        return Err(format!(
            "the images lie directly in {}, which says of no image what it shows; put them into a folder for each class \
             below, as in {first}/CLASS/IMAGE",
            slashed(at.folders.keys().map(String::as_str))
        ));
    }
    if splits.is_empty() || (!with_classes && !others.is_empty()) {
        return Ok(None);
    }
    if !others.is_empty() {
        return Err(format!(
            "the archive can be read in two ways: {} have class folders below them, as splits do, but {} beside them \
             is none. If they are splits, take the others out; if all are classes, put the images of each directly into it",
            names(&splits),
            names(&others)
        ));
    }
    let trains: Vec<_> = splits.iter().copied().filter(|(name, _)| split_of(name) == Some(Split::Train)).collect();
    match trains[..] {
        [(name, train)] if !train.folders.is_empty() => Ok(Some(name.clone())),
        [(name, _)] => Err(format!("the images in {name}/ lie in no class folder; expected {name}/CLASS/IMAGE")),
        [] => Err(format!(
            "the archive holds {}, but no train/, whose images would be read; upload each of these folders as a file of \
             its own, and name them in training_file, validation_file or test_file",
            names(&splits)
        )),
        _ => Err(format!("the archive holds {}, and only one of them can be what is trained on", names(&trains))),
    }
}

/// Why none of the images in a folder can be read. `path` are the folders that lead to it.
fn no_classes<'a>(at: &'a Folder, mut path: Vec<&'a str>) -> String {
    if at.folders.is_empty() {
        return format!("the archive has no class folders: {} in none; expected class/image", lie(at.images));
    }
    let within = |name: &str| split_of(name).is_some();
    if at.folders.values().all(|class| class.folders.keys().all(|name| within(name))) {
        return "splits such as train/ lie within the class folders; expected train/CLASS/IMAGE".to_owned();
    }
    let mut folder = at;
    while let Some((name, next)) = folder.folders.first_key_value() {
        path.push(name);
        folder = next;
    }
    let path = shown(path.join("/").as_bytes());
    format!("all images lie too deep, such as those in {path}/; expected class/image, or train/class/image")
}

/// What is said of the splits that are not read; of many the first few are named.
fn not_read(at: &Folder, read: &str) -> Note {
    let others = at.folders.iter().filter(|(name, _)| *name != read);
    let mut named: Vec<String> =
        others.map(|(name, folder)| format!("{name}/, where {}", lie(folder.all_images()))).collect();
    if named.len() > MOST_NAMED {
        named.truncate(MOST_NAMED);
        named.push("…".to_owned());
    }
    Note::warning(
        "splits_not_read",
        format!(
            "Only the images in {read}/ are read. Not read are {}. To use them, upload each of these folders as an archive of \
             its own, and name it in validation_file or test_file.",
            named.join("; ")
        ),
    )
}

/// What is said of classes that are called like splits.
fn splits_as_classes(at: &Folder) -> Option<Note> {
    let splits: Vec<&str> = at.folders.keys().map(String::as_str).filter(|name| split_of(name).is_some()).collect();
    (!splits.is_empty()).then(|| {
        let named = slashed(splits);
        Note::warning("splits_as_classes", format!("Images lie directly in {named}, so that each is read as a class."))
    })
}

/// What is said of classes in hidden folders. Unix hides names with a dot, but people call classes so, too, and a folder
/// that is passed over takes its images along; systems' folders are known by name.
fn hidden(classes: &Folder) -> Option<Note> {
    let found: Vec<&str> =
        classes.folders.iter().filter(|(name, _)| name.starts_with('.')).map(|(name, _)| name.as_str()).collect();
    (!found.is_empty()).then(|| {
        let message = format!("Folders whose names begin with a dot are read as classes: {}.", listed(&found));
        Note::warning("hidden_classes", message)
    })
}

/// How many images lie somewhere.
fn lie(images: u64) -> String {
    if images == 1 { "1 image lies".to_owned() } else { format!("{images} images lie") }
}

/// Folders as a message names them; of many the first few.
fn slashed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("{}/", shown(name.as_bytes()))).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    match (names.pop(), more) {
        (Some(last), 0) if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        (Some(last), more) if more > 0 => format!("{}, {last} and {more} more", names.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::folders::Folders;
    use super::{Belongs, Layout};

    fn folders(paths: &[&str]) -> Folders {
        let mut folders = Folders::default();
        for path in paths {
            let parts: Vec<&str> = path.split('/').collect();
            assert!(folders.add(&parts[..parts.len() - 1]));
        }
        folders
    }

    fn layout(paths: &[&str]) -> Layout {
        Layout::of(&folders(paths).top).unwrap()
    }

    fn why_not(paths: &[&str]) -> String {
        Layout::of(&folders(paths).top).unwrap_err()
    }

    /// The classes of these files, or in brackets what becomes of them otherwise.
    fn classes(paths: &[&str]) -> String {
        let layout = layout(paths);
        let place = |path: &&str| match layout.place(&path.split('/').collect::<Vec<_>>()) {
            Ok(Belongs::To(class)) => class.to_owned(),
            Ok(Belongs::ToSplit(split)) => format!("[{split}]"),
            Err(message) => format!("[{}]", message.split(';').next().unwrap()),
        };
        paths.iter().map(place).collect::<Vec<_>>().join(" ")
    }

    fn codes(paths: &[&str]) -> Vec<String> {
        layout(paths).notes.into_iter().map(|note| note.code).collect()
    }

    #[test]
    fn folders_above_all_classes_are_none() {
        assert_eq!(classes(&["cats/1", "dogs/1"]), "cats dogs");
        assert_eq!(classes(&["pets/cats/1", "pets/dogs/1"]), "cats dogs");
        assert_eq!(classes(&["data/pets/cats/1", "data/pets/dogs/1"]), "cats dogs");
        assert_eq!(classes(&["test/cats/1", "test/dogs/1"]), "cats dogs");
        assert_eq!(classes(&["cats/1", "cats/2"]), "cats cats");
        assert_eq!(classes(&["pets/cats/1"]), "cats");
        assert_eq!(codes(&["pets/cats/1", "pets/dogs/1"]), [""; 0]);
    }

    #[test]
    fn images_that_lie_elsewhere_are_faults_of_their_own() {
        let strays = ["1", "pets/2", "pets/cats/3", "pets/dogs/4", "pets/dogs/old/5"];
        let none = "[lies in no class folder]";
        assert_eq!(classes(&strays), format!("{none} {none} cats dogs [lies too deep]"));
        assert_eq!(classes(&["train/cats/1", "train/2", "test/cats/3"]), format!("cats {none} [test]"));
        assert_eq!(classes(&["train/cats/1", "test/cats/3", "4"]), format!("cats [test] {none}"));
    }

    #[test]
    fn where_no_image_lies_in_a_class_folder_there_is_one_fault() {
        assert!(why_not(&["1", "2"]).contains("2 images lie in none; expected class/image"));
        assert!(why_not(&["a/b/c/1", "d/e/2"]).contains("too deep, such as those in a/b/c/"));
        assert!(why_not(&["p/train/x/cats/1", "p/test/x/cats/2"]).contains("such as those in p/train/x/cats/"));
        assert!(why_not(&["cats/train/1", "cats/test/2", "dogs/train/3"]).contains("within the class folders"));
        let flat = [
            &["train/1", "test/2"][..],
            &["train/1"],
            &["x/Train/1", "x/Test/2"],
            &["train/1", "test1/2"],
            &["train_images/1", "test_images/2"],
            &["train2017/1", "val2017/2"],
            &["images/1", "masks/2"],
            &["images/1"],
        ];
        for paths in flat {
            assert!(why_not(paths).contains("which says of no image what it shows"), "{paths:?}");
        }
    }

    #[test]
    fn of_splits_side_by_side_the_training_one_is_read() {
        let splits = ["x/Train/cats/1", "x/Train/dogs/2", "x/VAL/cats/3", "x/test/4"];
        assert_eq!(classes(&splits), "cats dogs [val] [test]");
        let notes = layout(&splits).notes;
        assert_eq!((notes.len(), notes[0].code.as_str(), notes[0].warning), (1, "splits_not_read", true));
        let message = &notes[0].message;
        assert!(message.starts_with("Only the images in Train/ are read."), "{message}");
        assert!(message.contains("VAL/, where 1 image lies; test/, where 1 image lies."), "{message}");
        for (one, other) in [
            ("training", "validation"),
            ("train", "dev"),
            ("TRAIN", "Testing"),
            ("train", "eval"),
            ("training_set", "test_set"),
            ("train2017", "val2017"),
            ("seg_train", "seg_test"),
        ] {
            let paths = [format!("{one}/cats/1"), format!("{other}/cats/2")];
            let found = classes(&paths.each_ref().map(String::as_str));
            assert_eq!(found, format!("cats [{}]", other.to_ascii_lowercase()));
        }
    }

    #[test]
    fn splits_that_cannot_be_told_are_one_fault() {
        assert!(why_not(&["val/cats/1", "test/cats/2"]).contains("holds test/ and val/, but no train/"));
        assert!(why_not(&["train/cats/1", "Train/cats/2"]).contains("holds Train/ and train/, and only one"));
        assert!(why_not(&["train/1", "test/cats/2"]).contains("the images in train/ lie in no class folder"));
        let both = why_not(&["train/cats/1", "test/cats/2", "sample/3"]);
        assert!(both.contains("in two ways: test/ and train/ have class folders"), "{both}");
        assert!(both.contains("but sample/ beside them is none"), "{both}");
        assert!(why_not(&["train/red/1", "bus/2"]).contains("in two ways"));
    }

    #[test]
    fn a_class_may_be_called_train() {
        let vehicles = ["train/1", "bus/2", "car/3"];
        assert_eq!(classes(&vehicles), "train bus car");
        let notes = layout(&vehicles).notes;
        assert_eq!(notes[0].code, "splits_as_classes");
        assert!(notes[0].message.starts_with("Images lie directly in train/,"), "{}", notes[0].message);
    }

    #[test]
    fn hidden_folders_are_classes_and_are_told() {
        assert_eq!(classes(&[".net/1", "java/2"]), ".net java");
        let notes = layout(&[".net/1", "java/2"]).notes;
        assert_eq!((notes.len(), notes[0].code.as_str()), (1, "hidden_classes"));
        assert!(notes[0].message.contains("\".net\""), "{}", notes[0].message);
    }
}
