//! The names in zip archives, of which few say in which character set they are, and some have backslashes between folders.

use flate2::Crc;

use super::archive::Name;
use super::names::MAX_NAME_BYTES;

/// Bit 11 of a member's flags: its name is in UTF-8 (APPNOTE 4.4.4).
const IS_UTF8: u64 = 1 << 11;

/// The upper half of IBM's code page 437, in which MS-DOS and PKZIP named files (APPNOTE, appendix D), as Unicode's table
/// has it (`CP437.TXT`). Of the lower half only control characters differ from ASCII, which no name may hold.
const CODE_PAGE_437: &str = concat!(
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»",
    "░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀",
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}"
);

/// What the record of a member says about its name.
pub(super) struct Written<'a> {
    pub(super) name: &'a [u8],
    pub(super) flags: u64,
    /// The system whose packer made it: the upper byte of "version made by".
    pub(super) system: u64,
    /// The name in UTF-8 as Info-ZIP's extra field 0x7075 has it, with that field's version and checksum in front.
    pub(super) unicode: Option<&'a [u8]>,
}

impl Written<'_> {
    /// The name, as unzip and bsdtar read it.
    pub(super) fn read(&self) -> Name {
        let (text, is_dos_text) = self.text();
        let is_dos_path = self.has_backslashes(text.as_deref().unwrap_or_default());
        let text = if is_dos_path { text.map(|text| text.replace('\\', "/")) } else { text };
        Name { text, is_dos_text, is_dos_path }
    }

    fn text(&self) -> (Result<String, String>, bool) {
        if self.name.len() > MAX_NAME_BYTES {
            return (Err(format!("its name is longer than {MAX_NAME_BYTES} bytes")), false);
        }
        let plain = std::str::from_utf8(self.name).map(str::to_owned);
        if self.flags & IS_UTF8 != 0 {
            return (plain.map_err(|_| "its name is not valid UTF-8".to_owned()), false);
        }
        match self.unicode().map(str::to_owned).or_else(|| plain.ok()) {
            Some(text) => (Ok(text), false),
            None => (Ok(self.name.iter().map(|&byte| dos_character(byte)).collect()), true),
        }
    }

    /// The name in the extra field, unless somebody changed the other one since.
    fn unicode(&self) -> Option<&str> {
        let ([1, a, b, c, d], name) = self.unicode?.split_first_chunk::<5>()? else { return None };
        let mut crc = Crc::new();
        crc.update(self.name);
        (crc.sum() == u32::from_le_bytes([*a, *b, *c, *d])).then(|| std::str::from_utf8(name).ok())?
    }

    /// Whether backslashes stand between the parts: on systems where no file's name can hold one, some packers write the
    /// path as it is there.
    fn has_backslashes(&self, name: &str) -> bool {
        // MS-DOS, NTFS by APPNOTE's number and by Info-ZIP's, VFAT.
        let is_dos = matches!(self.system, 0 | 10 | 11 | 14);
        is_dos && name.contains('\\') && !name.contains('/')
    }
}

fn dos_character(byte: u8) -> char {
    match byte.checked_sub(128) {
        None => char::from(byte),
        Some(upper) => CODE_PAGE_437.chars().nth(usize::from(upper)).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::{IS_UTF8, Written, dos_character};

    fn written(name: &[u8]) -> Written<'_> {
        Written { name, flags: 0, system: 3, unicode: None }
    }

    fn extra(of: &[u8], name: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(of);
        [&[1], &crc.sum().to_le_bytes()[..], name].concat()
    }

    #[test]
    fn a_name_is_read_as_it_says_else_as_utf_8_else_in_code_page_437() {
        let dos = b"caf\x82/1.png";
        let found = written(dos).read();
        assert_eq!((found.text.unwrap().as_str(), found.is_dos_text), ("café/1.png", true));
        let found = written("café/1.png".as_bytes()).read();
        assert_eq!((found.text.unwrap().as_str(), found.is_dos_text), ("café/1.png", false));
        let found = Written { flags: IS_UTF8, ..written(dos) }.read();
        assert!(found.text.unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn the_name_in_the_extra_field_counts_where_it_belongs_to_the_other() {
        let name = b"caf\xE9/1.png";
        let right = extra(name, "café/1.png".as_bytes());
        assert_eq!(Written { unicode: Some(&right), ..written(name) }.read().text.unwrap(), "café/1.png");
        let mut version = right.clone();
        version[0] = 2;
        for wrong in [extra(b"cafe/1.png", "café/1.png".as_bytes()), version, extra(name, b"\xFF"), right[..4].to_vec()]
        {
            let found = Written { unicode: Some(&wrong), ..written(name) }.read();
            assert_eq!((found.text.unwrap().as_str(), found.is_dos_text), ("cafΘ/1.png", true));
        }
    }

    #[test]
    fn backslashes_are_separators_where_the_packer_ran_on_such_a_system() {
        for system in 0..=20 {
            let found = Written { system, ..written(b"pets\\cats\\1.png") }.read();
            let is_dos = [0, 10, 11, 14].contains(&system);
            let expected = if is_dos { "pets/cats/1.png" } else { "pets\\cats\\1.png" };
            assert_eq!((found.text.unwrap().as_str(), found.is_dos_path), (expected, is_dos), "{system}");
        }
        let found = Written { system: 0, ..written(b"pets/cats\\1.png") }.read();
        assert_eq!(found.text.unwrap(), "pets/cats\\1.png");
    }

    #[test]
    fn the_table_has_a_character_for_each_byte() {
        assert!((0..=255).all(|byte| dos_character(byte) != char::REPLACEMENT_CHARACTER));
        assert_eq!((dos_character(b'a'), dos_character(0x80), dos_character(0xFF)), ('a', 'Ç', '\u{A0}'));
        assert_eq!(super::CODE_PAGE_437.chars().count(), 128);
    }
}
