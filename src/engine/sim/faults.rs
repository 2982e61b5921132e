//! What a write leaves behind when the drive sins. Pure functions of the command's key.

use crate::base::sim::Fault;
use crate::base::{Op, random};

/// A sin that a drive has committed: the truth that a verdict is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sin {
    /// Which.
    pub fault: Fault,
    /// The drive's number of the command, from 0. A roll-back has that of the write whose data go.
    pub number: u64,
    /// The command.
    pub op: Op,
    /// Where the command (or the part of it that was done now) begins.
    pub offset: u64,
    /// Its length.
    pub len: u32,
    /// `misplaced`: where it landed. `torn`: where it ends. `torn_lba`: the first LBA that did not
    /// land. `bit_flip`, `transient_read`: the byte. `shifted`: by how many bytes.
    pub other: Option<u64>,
}

/// What a sin stores in place of a write.
pub struct Spoilt {
    /// Where.
    pub offset: u64,
    /// What: as long as the write.
    pub bytes: Box<[u8]>,
    /// See [`Sin::other`].
    pub other: Option<u64>,
}

/// What a drive does instead of writing `new` over `old` at `offset`; `None` if the sin would leave
/// no mark. `size` is that of the drive.
pub fn spoil(
    fault: Fault,
    key: u64,
    offset: u64,
    (old, new): (&[u8], &[u8]),
    lba: u32,
    size: u64,
) -> Option<Spoilt> {
    let (step, len) = (lba as usize, new.len());
    let draw = |k: u64, n: usize| usize::try_from(random::below(random::at(key, k), n as u64)).unwrap_or(0);
    let at = |index: usize| Some(offset + index as u64);
    let mut place = offset;
    let (bytes, other): (Vec<u8>, Option<u64>) = match fault {
        Fault::Lost => (old.to_vec(), None),
        Fault::Torn => {
            let end = draw(0, len / step) * step + 1 + draw(1, step - 1);
            ([&new[..end], &old[end..]].concat(), at(end))
        }
        Fault::TornLba | Fault::WriteError => {
            let lbas = len / step;
            let mut lands: Vec<bool> = (0..lbas).map(|n| draw(n as u64, 2) == 0).collect();
            if fault == Fault::TornLba {
                if lbas < 2 {
                    return None;
                }
                // At least one of each.
                let odd = draw(lbas as u64, lbas);
                lands[(odd + 1) % lbas] = !lands[odd];
            }
            let from = |n: usize| if lands[n] { new } else { old };
            let bytes = (0..lbas).flat_map(|n| from(n)[n * step..(n + 1) * step].iter().copied());
            (bytes.collect(), lands.iter().position(|lands| !lands).and_then(|n| at(n * step)))
        }
        Fault::Misplaced => {
            let length = len as u64;
            let first = offset % length;
            let (own, places) = (offset / length, size.saturating_sub(first) / length);
            if places < 2 {
                return None;
            }
            let other = random::below(random::at(key, 0), places - 1);
            place = (other + u64::from(other >= own)) * length + first;
            (new.to_vec(), Some(place))
        }
        Fault::BitFlip => {
            let bit = draw(0, len * 8);
            let mut bytes = new.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            (bytes, at(bit / 8))
        }
        Fault::Blank => (vec![0; len], None),
        Fault::Ones => (vec![0xff; len], None),
        Fault::Shifted => {
            let by = 1 + draw(0, step - 1);
            let mut bytes = new.to_vec();
            bytes.rotate_right(by);
            (bytes, Some(by as u64))
        }
        _ => return None,
    };
    (place != offset || fault == Fault::WriteError || bytes != new).then(|| Spoilt {
        offset: place,
        bytes: bytes.into(),
        other,
    })
}
