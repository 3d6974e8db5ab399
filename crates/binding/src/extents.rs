//! Extents as Python sees them.

use plinius_medium::Extent;

/// An extent: offset, bytes.
pub type ExtentTuple = (u64, u64);

/// Of a tuple.
pub fn extent((offset, bytes): ExtentTuple) -> Extent {
    Extent { offset, bytes }
}

/// Of several.
pub fn extents(tuples: Vec<ExtentTuple>) -> Vec<Extent> {
    tuples.into_iter().map(extent).collect()
}

/// The tuples of several.
pub fn tuples(extents: &[Extent]) -> Vec<ExtentTuple> {
    extents.iter().map(|extent| (extent.offset, extent.bytes)).collect()
}
