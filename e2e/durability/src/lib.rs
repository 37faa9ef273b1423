//! What the proofs of durability share: repeatable chance, and values made of it.
//!
//! Used by the programs in `src/bin` only. Nothing of this is in the product.

pub mod device;
pub mod image;
pub mod store;
pub mod workload;

pub use records::disk::faulty::Dice;

/// `length` bytes that no compression helps with.
pub fn noise(dice: &mut Dice, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The middle one of some figures.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
