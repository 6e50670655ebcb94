//! Which host CPUs a thread may run on.
//!
//! A vCPU that sleeps and is woken by a busy one tends to be placed on the busy one's CPU, where it
//! waits for a time slice although another CPU idles. Where there is a CPU for each vCPU, pinning
//! them apart takes that chance out of a measurement.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

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

/// Keeps a thread of this process on some CPUs.
///
/// # Errors
/// The kernel's, such as EINVAL for CPUs that are not there or not allowed.
pub fn keep_on<T>(thread: &JoinHandle<T>, cpus: &[usize]) -> io::Result<()> {
    let set = set_of(cpus)?;
    // SAFETY: the thread has not been joined, so its handle is valid; the call reads the size given, of
    // a set of that size.
    let error = unsafe {
        libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of::<libc::cpu_set_t>(), &set)
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Keeps thread `tid` of any process on one CPU; 0 is the calling thread.
///
/// # Errors
/// The kernel's, as above, and ESRCH if there is no such thread.
pub fn pin_thread(tid: i32, cpu: usize) -> io::Result<()> {
    let set = set_of(&[cpu])?;
    // SAFETY: the kernel reads the size given, of a set of that size.
    let result = unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_of(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: the index is below the size of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_is_where_it_was_put() {
        let all = allowed().unwrap();
        let last = *all.last().unwrap();
        let (go, gone) = mpsc::channel();
        let (say, said) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            gone.iter().for_each(|()| say.send(allowed().unwrap()).unwrap());
        });
        for cpus in [&[last][..], &all] {
            keep_on(&thread, cpus).unwrap();
            go.send(()).unwrap();
            assert_eq!(said.recv().unwrap(), cpus);
        }
        drop(go);
        thread.join().unwrap();
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        assert!(pin_thread(0, 1023).is_err());
        assert!(pin_thread(0, usize::MAX).is_err());
    }
}
