//! Copying and comparing bytes, at the speed that packets need: what `runtime` calls `memcpy` and
//! `memcmp`.

use core::arch::asm;
use core::arch::x86_64::__m128i;

/// Bytes from which `rep movsb` pays for its start-up.
const STRING_MOVE: usize = 512;

/// Copies `count` bytes from the first on. Short copies, which are most, are made of moves that may
/// overlap each other, all loaded before any is stored.
///
/// # Safety
/// As C's `memmove`, and `dest` does not lie within the source behind its first byte.
#[inline]
pub unsafe fn copy_up(dest: *mut u8, src: *const u8, count: usize) {
    // SAFETY: `size_of::<T>()` is at most `count`, and the caller vouches for that many bytes.
    unsafe {
        match count {
            0 => {}
            1 => dest.write(src.read()),
            2..4 => copy_ends::<u16>(dest, src, count),
            4..8 => copy_ends::<u32>(dest, src, count),
            8..16 => copy_ends::<u64>(dest, src, count),
            16..=32 => copy_ends::<__m128i>(dest, src, count),
            33..STRING_MOVE => copy_blocks(dest, src, count),
            STRING_MOVE.. => asm!("rep movsb", inout("rdi") dest => _, inout("rsi") src => _,
                inout("rcx") count => _, options(nostack, preserves_flags)),
        }
    }
}

/// Copies the first and the last bytes: all, if `count` is at most twice the size of a `T`.
///
/// # Safety
/// As `copy_up`; `count` is at least the size of a `T`.
#[inline]
unsafe fn copy_ends<T>(dest: *mut u8, src: *const u8, count: usize) {
    let last = count - size_of::<T>();
    // SAFETY: both moves are within the regions that the caller vouches for.
    unsafe {
        let (head, tail) =
            (src.cast::<T>().read_unaligned(), src.add(last).cast::<T>().read_unaligned());
        dest.cast::<T>().write_unaligned(head);
        dest.add(last).cast::<T>().write_unaligned(tail);
    }
}

/// Copies blocks of 32 bytes, then the last 32. In assembly, as the compiler would see a memcpy in
/// the loop.
///
/// # Safety
/// As `copy_up`; `count` is at least 33.
#[inline]
unsafe fn copy_blocks(dest: *mut u8, src: *const u8, count: usize) {
    // SAFETY: the loop ends before the last 32 bytes, which are loaded first, as a block that
    // overlaps them might overwrite their source. All is within the caller's regions.
    unsafe {
        asm!(
            "movups {t0}, [{src} + {last}]",
            "movups {t1}, [{src} + {last} + 16]",
            "xor {i:e}, {i:e}",
            "2:",
            "movups {a}, [{src} + {i}]",
            "movups {b}, [{src} + {i} + 16]",
            "movups [{dest} + {i}], {a}",
            "movups [{dest} + {i} + 16], {b}",
            "add {i}, 32",
            "cmp {i}, {last}",
            "jb 2b",
            "movups [{dest} + {last}], {t0}",
            "movups [{dest} + {last} + 16], {t1}",
            src = in(reg) src,
            dest = in(reg) dest,
            last = in(reg) count - 32,
            i = out(reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            t0 = out(xmm_reg) _,
            t1 = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Compares `count` bytes as C's `memcmp` does.
///
/// # Safety
/// There are `count` bytes at both addresses.
#[inline]
pub unsafe fn compare(a: *const u8, b: *const u8, count: usize) -> i32 {
    let mut i = 0;
    // SAFETY: the caller vouches for `count` bytes at both addresses; volatile keeps the compiler
    // from turning these loops into a call of memcmp.
    unsafe {
        let word = |p: *const u8, i: usize| p.add(i).cast::<Word>().read_volatile().0;
        while i + size_of::<Word>() <= count && word(a, i) == word(b, i) {
            i += size_of::<Word>();
        }
        while i < count {
            let (x, y) = (a.add(i).read_volatile(), b.add(i).read_volatile());
            if x != y {
                return i32::from(x) - i32::from(y);
            }
            i += 1;
        }
    }
    0
}

/// Eight bytes anywhere.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Word(u64);

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for the longest copy and a guard on both sides.
    const ROOM: usize = 1024;

    fn numbered() -> Vec<u8> {
        (0..ROOM).map(|i| (i * 7 + i / 256) as u8).collect()
    }

    #[test]
    fn every_length_is_copied_and_nothing_else() {
        for count in (0..100).chain(STRING_MOVE - 40..STRING_MOVE + 40) {
            for (from, to) in [(0, 64), (3, 65), (17, 80)] {
                let (source, mut target) = (numbered(), vec![0xee; ROOM]);
                let mut expected = target.clone();
                expected[to..to + count].copy_from_slice(&source[from..from + count]);
                // SAFETY: both ranges are within their vectors.
                unsafe { copy_up(target.as_mut_ptr().add(to), source.as_ptr().add(from), count) };
                assert_eq!(target, expected, "{count} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn a_copy_may_overlap_downwards() {
        for count in (0..100).chain(STRING_MOVE - 40..STRING_MOVE + 40) {
            for distance in [0, 1, 5, 16, 31, 32, 33, 64] {
                let mut bytes = numbered();
                let mut expected = bytes.clone();
                expected.copy_within(distance..distance + count, 0);
                let start = bytes.as_mut_ptr();
                // SAFETY: both ranges are within the vector, and the target begins first.
                unsafe { copy_up(start, start.add(distance), count) };
                assert_eq!(bytes, expected, "{count} bytes by {distance}");
            }
        }
    }

    #[test]
    fn the_first_difference_decides() {
        let ours = numbered();
        for count in 0..40 {
            // SAFETY: `count` is within the vectors.
            let compare = |theirs: &[u8]| unsafe { compare(ours.as_ptr(), theirs.as_ptr(), count) };
            assert_eq!(compare(&ours.clone()), 0);
            for at in 0..count {
                let mut theirs = ours.clone();
                theirs[at] ^= 1;
                theirs[at + 1] ^= 0x80;
                let expected = i32::from(ours[at]) - i32::from(theirs[at]);
                assert_eq!(compare(&theirs), expected, "byte {at} of {count}");
            }
        }
    }
}
