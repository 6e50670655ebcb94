//! The kernel's side of a TAP, and what it counts there.

use std::io;
use std::sync::Arc;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, Stats64};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcStats2};
use serde::Serialize;

use super::error::{NetworkError, to_io};
use super::netns::Netns;

/// A TAP interface: of a guest's NIC on a bridge, or the host's end of a link.
#[derive(Clone, Debug)]
pub struct TapPort {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) netns: Arc<Netns>,
}

/// What the kernel has counted at a TAP, in frames unless named otherwise. Directions are those of
/// the TAP's holder: it writes what its guest sends and reads what its guest receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortStats {
    /// Written by the holder and taken by the bridge or the host (the interface's rx_packets).
    pub written: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Written by the holder and refused, of which write(2) told it (rx_dropped).
    pub write_refused: u64,
    /// Read by the holder (tx_packets): what still waits in the TAP's queue is not in it.
    pub read: u64,
    /// Bytes of those.
    pub read_bytes: u64,
    /// Dropped because the TAP's queue was full (tx_dropped).
    pub queue_full: u64,
    /// Name of the queueing discipline in front of the TAP's queue.
    pub qdisc: String,
    /// Dropped by it.
    pub qdisc_dropped: u64,
    /// Waiting in it.
    pub qdisc_queued: u64,
}

impl TapPort {
    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel has counted since the interface was created: that may be long ago if somebody
    /// else did.
    ///
    /// # Errors
    /// If the kernel does not tell, or the interface is gone.
    pub async fn stats(&self) -> Result<PortStats, NetworkError> {
        let link = self.netns.link(&self.name).await?;
        let stats = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(*stats),
            _ => None,
        });
        let Some(Stats64 {
            rx_packets,
            rx_bytes,
            rx_dropped,
            tx_packets,
            tx_bytes,
            tx_dropped,
            ..
        }) = stats
        else {
            let error = io::Error::new(io::ErrorKind::InvalidData, "no statistics in the answer");
            return Err(NetworkError::interface("read", &self.name, error));
        };
        let mut result = PortStats {
            written: rx_packets,
            written_bytes: rx_bytes,
            write_refused: rx_dropped,
            read: tx_packets,
            read_bytes: tx_bytes,
            queue_full: tx_dropped,
            ..PortStats::default()
        };
        self.read_qdisc(&mut result).await.map_err(|error| {
            NetworkError::interface("read the queueing discipline of", &self.name, to_io(error))
        })?;
        Ok(result)
    }

    async fn read_qdisc(&self, result: &mut PortStats) -> Result<(), rtnetlink::Error> {
        let index = self.index as i32;
        let mut qdiscs = self.netns.netlink().qdisc().get().index(index).execute();
        while let Some(qdisc) = qdiscs.try_next().await? {
            // Some kernels answer for all interfaces.
            if qdisc.header.index != index || qdisc.header.parent != TcHandle::ROOT {
                continue;
            }
            for attribute in qdisc.attributes {
                match attribute {
                    TcAttribute::Kind(kind) => result.qdisc = kind,
                    TcAttribute::Stats2(stats) => {
                        for stats in stats {
                            if let TcStats2::Queue(queue) = stats {
                                result.qdisc_dropped = queue.drops.into();
                                result.qdisc_queued = queue.qlen.into();
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
