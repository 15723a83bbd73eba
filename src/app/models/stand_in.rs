//! What stands in the place of a file where a download did not give the file itself.

/// Bytes of a file that tell.
pub(super) const HEAD: u64 = 512;

/// What every pointer file of Git LFS begins with (git-lfs.com, `docs/spec.md`).
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What stands in the place of the file called `name`, which begins with `head`, and what to do; None if the file itself
/// may be there.
pub(super) fn stand_in(name: &str, head: &[u8]) -> Option<String> {
    if head.starts_with(POINTER) {
        return Some(
            "is a pointer of Git LFS and not the file itself: run 'git lfs pull' in its repository".to_owned(),
        );
    }
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    // A licence or a model card may be one.
    let is_prose = matches!(ending, "" | "md" | "jinja");
    let text = String::from_utf8_lossy(head).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let is_page = ["<!doctype html", "<html"].iter().any(|start| text.starts_with(start));
    (is_page && !is_prose).then(|| {
        "is a web page and not the file itself: fetch it again, from Hugging Face by /resolve/ and not by /blob/"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::stand_in;

    #[test]
    fn pointers_and_pages_are_told_from_files() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(stand_in("model.safetensors", pointer).unwrap().contains("git lfs pull"));
        assert!(stand_in("README.md", pointer).is_some());
        for page in ["<!DOCTYPE html><html>", "\u{feff}\n <HTML lang=\"en\">", "<html>404</html>"] {
            assert!(stand_in("config.json", page.as_bytes()).unwrap().contains("is a web page"), "{page}");
            assert_eq!(stand_in("README.md", page.as_bytes()), None);
            assert_eq!(stand_in("LICENSE", page.as_bytes()), None);
        }
        for file in [&b"{}"[..], b"", b"[PAD]\n<html>", b"\xff\xfe<html>", b"<s>\n</s>"] {
            assert_eq!(stand_in("vocab.txt", file), None);
        }
    }
}
