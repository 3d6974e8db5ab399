//! Sealed data sets: records of equal size, each `nonce | ciphertext | tag`, bound to its data set, index and count.

use plinius_medium::{Extent, Region, Target};
use plinius_seal::{Aad, BulkKey, NONCE_BYTES, TAG_BYTES};
use zeroize::{Zeroize, Zeroizing};

use crate::chunk::{in_parallel, useful_threads};
use crate::error::{Error, Result};

const FORMAT_VERSION: u64 = 1;
const FRAME_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// What every record of a data set is bound to.
#[derive(Clone, Debug)]
pub struct RecordShape {
    /// The whole header of the data set: id, count, sizes, types.
    pub header: Vec<u8>,
    /// Bytes of a record's image.
    pub image_bytes: usize,
    /// Bytes of a record's label.
    pub label_bytes: usize,
}

impl RecordShape {
    /// Bytes of a sealed record.
    pub fn sealed_bytes(&self) -> usize {
        FRAME_BYTES + self.image_bytes + self.label_bytes
    }

    fn aad(&self, index: u64) -> Aad {
        Aad::new("record").number(FORMAT_VERSION).field(&self.header).number(index)
    }
}

/// Seals consecutive records, the first of which has index `first`.
pub fn seal_records(key: &BulkKey, shape: &RecordShape, first: u64, images: &[u8], labels: &[u8]) -> Result<Vec<u8>> {
    if shape.image_bytes == 0 || shape.label_bytes == 0 {
        return Err(Error::Misuse("a record has an image and a label, each of at least one byte".into()));
    }
    let count = images.len() / shape.image_bytes;
    if images.len() != count * shape.image_bytes || labels.len() != count * shape.label_bytes {
        return Err(Error::Misuse("images and labels are not whole records of one count".into()));
    }
    let mut sealed = Vec::with_capacity(count * shape.sealed_bytes());
    let mut record = Vec::with_capacity(shape.image_bytes + shape.label_bytes);
    let pairs = images.chunks_exact(shape.image_bytes).zip(labels.chunks_exact(shape.label_bytes));
    for (index, (image, label)) in (first..).zip(pairs) {
        record.clear();
        record.extend(image);
        record.extend(label);
        let (nonce, tag) = key.seal(&shape.aad(index), &mut record)?;
        sealed.extend(nonce);
        sealed.extend(&record);
        sealed.extend(tag);
    }
    record.zeroize();
    Ok(sealed)
}

/// Opens records of a data set that lies in a pool.
pub struct RecordReader {
    key: BulkKey,
    shape: RecordShape,
    extent: Extent,
    count: u64,
}

impl RecordReader {
    /// A reader of the records in `extent`, which holds nothing else.
    pub fn new(key: BulkKey, shape: RecordShape, extent: Extent, count: u64) -> Result<Self> {
        if count.checked_mul(shape.sealed_bytes() as u64) != Some(extent.bytes) {
            return Err(Error::Refused(format!("a data set of {count} records in {} bytes", extent.bytes)));
        }
        Ok(Self { key, shape, extent, count })
    }

    /// Opens the records of `indices`, in this order, each image into `images` and each label into `labels`. With
    /// `scale`, images of bytes become 32-bit floats from 0 to 1.
    pub fn open<R: Region, T: Target>(
        &self,
        region: &R,
        indices: &[u64],
        images: &T,
        labels: &T,
        scale: bool,
        threads: usize,
    ) -> Result<()> {
        let image_bytes = self.shape.image_bytes * if scale { size_of::<f32>() } else { 1 };
        if images.len() != indices.len() * image_bytes || labels.len() != indices.len() * self.shape.label_bytes {
            return Err(Error::Misuse("the targets do not have the size of the batch".into()));
        }
        in_parallel(
            indices.len(),
            useful_threads(threads, indices.len() * self.shape.sealed_bytes()),
            self.shape.sealed_bytes(),
            |staging, item, _| {
                let record = self.open_record(region, indices[item], staging)?;
                let (image, label) = record.split_at(self.shape.image_bytes);
                labels.copy_in(item * self.shape.label_bytes, label);
                if scale {
                    images.copy_in(item * image_bytes, &scaled(image));
                } else {
                    images.copy_in(item * image_bytes, image);
                }
                Ok(())
            },
            || {},
        )
    }

    /// Checks the tags of `count` records from `first` on.
    pub fn verify<R: Region>(&self, region: &R, first: u64, count: usize, threads: usize) -> Result<()> {
        let check = |staging: &mut [u8], item: usize, _: &mut dyn FnMut() -> Option<usize>| {
            self.open_record(region, first + item as u64, staging).map(drop)
        };
        let threads = useful_threads(threads, count * self.shape.sealed_bytes());
        in_parallel(count, threads, self.shape.sealed_bytes(), check, || {})
    }

    fn open_record<'a, R: Region>(&self, region: &R, index: u64, staging: &'a mut [u8]) -> Result<&'a [u8]> {
        if index >= self.count {
            return Err(Error::Misuse(format!("there is no record {index}: the data set has {}", self.count)));
        }
        let sealed_bytes = self.shape.sealed_bytes();
        self.extent.load(region, index * sealed_bytes as u64, staging)?;
        let refused = |_| Error::Refused(format!("record {index} of the data set"));
        let (nonce, rest) = staging.split_first_chunk_mut().ok_or_else(|| refused(plinius_seal::Error::Refused))?;
        let opened = self.key.open(nonce, &self.shape.aad(index), rest).map_err(refused)?;
        Ok(opened)
    }
}

fn scaled(image: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut floats = Zeroizing::new(Vec::with_capacity(image.len() * size_of::<f32>()));
    floats.extend(image.iter().flat_map(|pixel| (f32::from(*pixel) / 255.0).to_ne_bytes()));
    floats
}
