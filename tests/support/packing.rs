//! Archives, written member by member as any packer, or none in good faith, may have written them.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::io::Write;

/// A member of a zip archive, as a hostile writer may have it.
#[derive(Clone, Copy)]
pub struct Zipped<'a> {
    pub name: &'a [u8],
    pub data: &'a [u8],
    pub method: u16,
    pub flags: u16,
    pub mode: u32,
    /// The system on which it was packed: 0 is MS-DOS, 3 is Unix.
    pub system: u8,
    /// Extra fields of the directory.
    pub extra: &'a [u8],
    /// What the directory says that it unpacks to; None is the truth.
    pub stated: Option<u32>,
    /// The checksum of the directory; None is the truth.
    pub checksum: Option<u32>,
    pub local_name: Option<&'a [u8]>,
}

impl<'a> Zipped<'a> {
    pub fn new(name: &'a [u8], data: &'a [u8]) -> Self {
        Self {
            name,
            data,
            method: 0,
            flags: 0,
            mode: 0o100_644,
            system: 3,
            extra: b"",
            stated: None,
            checksum: None,
            local_name: None,
        }
    }
}

pub fn zip(members: &[Zipped<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let mut crc = flate2::Crc::new();
        crc.update(member.data);
        let packed = if member.method == 8 {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(member.data).unwrap();
            encoder.finish().unwrap()
        } else {
            member.data.to_vec()
        };
        let offset = out.len() as u32;
        let unpacked = member.stated.unwrap_or(member.data.len() as u32);
        let mut common = Vec::new();
        for field in [20, member.flags, member.method, 0, 0] {
            common.extend(field.to_le_bytes());
        }
        for field in [member.checksum.unwrap_or(crc.sum()), packed.len() as u32, unpacked] {
            common.extend(field.to_le_bytes());
        }
        let local_name = member.local_name.unwrap_or(member.name);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend((local_name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(local_name);
        out.extend(&packed);
        directory.extend(b"PK\x01\x02\x14");
        directory.push(member.system);
        directory.extend(&common);
        directory.extend((member.name.len() as u16).to_le_bytes());
        directory.extend((member.extra.len() as u16).to_le_bytes());
        directory.extend([0; 6]);
        directory.extend((member.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(member.name);
        directory.extend(member.extra);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([(members.len() as u16).to_le_bytes(); 2].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// A member of a tar archive: name, type, the size it states, and its content.
pub fn tar_member(name: &[u8], kind: tar::EntryType, size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

pub fn tar_of(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}
