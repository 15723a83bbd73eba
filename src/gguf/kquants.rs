//! Blocks of 256 values whose groups have scales of their own, the "K" types of llama.cpp
//! ([ggml-common.h](https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h)).

use super::float::half;

/// Values of a block.
const VALUES: usize = 256;

/// Two bits a value, sixteen groups with a scale and a minimum of four bits each.
pub(super) fn q2_k(block: &[u8; 84], values: &mut [f32; VALUES]) {
    let (scales, [quants @ .., d0, d1, m0, m1]) = halves::<16, 68, 84>(block);
    let (scale, least) = (half(*d0, *d1), half(*m0, *m1));
    let groups = values.as_chunks_mut::<16>().0.iter_mut().zip(scales);
    for ((group, packed), quants) in groups.zip(places_of_two_bits(quants)) {
        let (factor, offset) = (scale * f32::from(packed & 0xF), least * f32::from(packed >> 4));
        for (value, quant) in group.iter_mut().zip(quants) {
            *value = factor * f32::from(quant) - offset;
        }
    }
}

/// Two bits a value and a third in a mask, sixteen groups with a scale of six bits.
pub(super) fn q3_k(block: &[u8; 110], values: &mut [f32; VALUES]) {
    let (mask, rest) = halves::<32, 78, 110>(block);
    let (quants, [l0, l1, l2, l3, l4, l5, l6, l7, h0, h1, h2, h3, d0, d1]) = halves::<64, 14, 78>(rest);
    let scale = half(*d0, *d1);
    let (lows, highs) = ([*l0, *l1, *l2, *l3, *l4, *l5, *l6, *l7], [*h0, *h1, *h2, *h3]);
    let lows = lows.into_iter().map(|byte| byte & 0xF).chain(lows.into_iter().map(|byte| byte >> 4));
    let highs = [0, 2, 4, 6].into_iter().flat_map(|shift| highs.map(|byte| byte >> shift & 3));
    let scales = lows.zip(highs).map(|(low, high)| f32::from(low | high << 4) - 32.0);
    let groups = values.as_chunks_mut::<16>().0.iter_mut().zip(scales).zip(places_of_two_bits(quants));
    for (place, ((group, group_scale), quants)) in groups.enumerate() {
        let factor = scale * group_scale;
        // One bit of the mask belongs to 32 values, and so to two groups, with half of the bytes each.
        let bytes = mask.iter().skip(place % 2 * 16);
        for ((value, quant), byte) in group.iter_mut().zip(quants).zip(bytes) {
            let third = if byte >> (place / 2) & 1 == 0 { 4.0 } else { 0.0 };
            *value = factor * (f32::from(quant) - third);
        }
    }
}

/// Four bits a value, eight groups with a scale and a minimum of six bits each.
pub(super) fn q4_k(block: &[u8; 144], values: &mut [f32; VALUES]) {
    let ([d0, d1, m0, m1, scales @ ..], quants) = halves::<16, 128, 144>(block);
    let (scale, least) = (half(*d0, *d1), half(*m0, *m1));
    let groups = values.as_chunks_mut::<32>().0.iter_mut().zip(scales_and_minima(scales));
    for ((group, (group_scale, minimum)), quants) in groups.zip(nibbles_of_groups(quants)) {
        let (factor, offset) = (scale * group_scale, least * minimum);
        for (value, quant) in group.iter_mut().zip(quants) {
            *value = factor * f32::from(quant) - offset;
        }
    }
}

/// As [`q4_k`], with a fifth bit of each value.
pub(super) fn q5_k(block: &[u8; 176], values: &mut [f32; VALUES]) {
    let ([d0, d1, m0, m1, scales @ ..], rest) = halves::<16, 160, 176>(block);
    let (fifths, quants) = halves::<32, 128, 160>(rest);
    let (scale, least) = (half(*d0, *d1), half(*m0, *m1));
    let groups = values.as_chunks_mut::<32>().0.iter_mut().zip(scales_and_minima(scales));
    for (place, ((group, (group_scale, minimum)), quants)) in groups.zip(nibbles_of_groups(quants)).enumerate() {
        let (factor, offset) = (scale * group_scale, least * minimum);
        for ((value, quant), fifth) in group.iter_mut().zip(quants).zip(fifths) {
            *value = factor * f32::from(quant | (fifth >> place & 1) << 4) - offset;
        }
    }
}

/// Four bits a value and two more, sixteen groups with a scale of eight bits.
pub(super) fn q6_k(block: &[u8; 210], values: &mut [f32; VALUES]) {
    let (lows, rest) = halves::<128, 82, 210>(block);
    let (highs, [scales @ .., d0, d1]) = halves::<64, 18, 82>(rest);
    let scale = half(*d0, *d1);
    // Of 64 bytes, the low halves belong to 64 values, the high halves to the next 64.
    let lows = lows.as_chunks::<64>().0.iter().flat_map(|bytes| {
        let low = bytes.as_chunks::<16>().0.iter().map(|bytes| bytes.map(|byte| byte & 0xF));
        low.chain(bytes.as_chunks::<16>().0.iter().map(|bytes| bytes.map(|byte| byte >> 4)))
    });
    let groups = values.as_chunks_mut::<16>().0.iter_mut().zip(scales);
    for (((group, &group_scale), lows), highs) in groups.zip(lows).zip(places_of_two_bits(highs)) {
        let factor = scale * f32::from(group_scale as i8);
        for ((value, low), high) in group.iter_mut().zip(lows).zip(highs) {
            *value = factor * (f32::from(low | high << 4) - 32.0);
        }
    }
}

/// The first bytes of a block, and the others.
fn halves<const FIRST: usize, const SECOND: usize, const BOTH: usize>(
    block: &[u8; BOTH],
) -> (&[u8; FIRST], &[u8; SECOND]) {
    const { assert!(FIRST + SECOND == BOTH) };
    match (block.first_chunk(), block.last_chunk()) {
        (Some(first), Some(second)) => (first, second),
        _ => (&[0; FIRST], &[0; SECOND]),
    }
}

/// Two bits of each value, in groups of sixteen. Of 32 bytes, the lowest bits belong to 32 values, the next to the next
/// 32.
fn places_of_two_bits(packed: &[u8; 64]) -> impl Iterator<Item = [u8; 16]> {
    packed.as_chunks::<32>().0.iter().flat_map(|bytes| {
        [0, 2, 4, 6].into_iter().flat_map(move |shift| {
            bytes.as_chunks::<16>().0.iter().map(move |bytes| bytes.map(|byte| byte >> shift & 3))
        })
    })
}

/// Four bits of each value, in groups of 32: of 32 bytes, the low halves and then the high halves.
fn nibbles_of_groups(packed: &[u8; 128]) -> impl Iterator<Item = [u8; 32]> {
    packed.as_chunks::<32>().0.iter().flat_map(|bytes| [bytes.map(|byte| byte & 0xF), bytes.map(|byte| byte >> 4)])
}

/// Scale and minimum of eight groups. The first four have their six bits in a byte each; those of the others are in
/// halves of the last four bytes, with two more in the highest bits of the first eight.
fn scales_and_minima([s0, s1, s2, s3, m0, m1, m2, m3, b0, b1, b2, b3]: &[u8; 12]) -> [(f32, f32); 8] {
    let first = |scale: &u8, minimum: &u8| (f32::from(scale & 63), f32::from(minimum & 63));
    let second = |both: &u8, scale: &u8, minimum: &u8| {
        (f32::from(both & 0xF | scale >> 6 << 4), f32::from(both >> 4 | minimum >> 6 << 4))
    };
    [
        first(s0, m0),
        first(s1, m1),
        first(s2, m2),
        first(s3, m3),
        second(b0, s0, m0),
        second(b1, s1, m1),
        second(b2, s2, m2),
        second(b3, s3, m3),
    ]
}
