//! Which host CPUs a thread may run on.
//!
//! A vCPU that sleeps and is woken by a busy one tends to be placed on the busy one's CPU, where it
//! waits for a time slice although another CPU idles. Where there is a CPU for each vCPU, pinning
//! them apart takes that chance out of a measurement.

use std::io;
use std::mem::{MaybeUninit, size_of};

/// The CPUs that this thread may run on, ascending.
///
/// # Errors
/// The kernel's.
pub fn allowed() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the kernel writes at most the size given, into a set of that size.
    let result =
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes is a valid set, and the kernel has filled it in.
    let set = unsafe { set.assume_init() };
    let limit = libc::CPU_SETSIZE as usize;
    // SAFETY: the index is below the size of the set.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// The kernel's, such as EINVAL for a CPU that is not there or not allowed.
pub fn pin_this_thread(cpu: usize) -> io::Result<()> {
    pin_thread(0, cpu)
}

/// Keeps thread `tid` of any process on one CPU; 0 is the calling thread.
///
/// # Errors
/// The kernel's, as above, and ESRCH if there is no such thread.
pub fn pin_thread(tid: i32, cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the index was checked above; the kernel reads the size given, of a set of that size.
    let result = unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_cpu() {
        let last = *allowed().unwrap().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_this_thread(last).unwrap();
            allowed().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        assert!(pin_this_thread(1023).is_err());
        assert!(pin_this_thread(usize::MAX).is_err());
    }
}
