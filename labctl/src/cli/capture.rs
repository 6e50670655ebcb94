//! `labctl capture`: the frames on a cable, as a pcapng file.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::{LabName, next, note};
use crate::control::client::ByteReader;
use crate::control::protocol::Request;
use crate::error::{Error, Exit};
use crate::report::number::things;

const EXAMPLES: &str = "\
Examples:
  labctl capture left:0 -w left.pcapng          until Ctrl-C
  labctl capture sw0:1 | tshark -r -            live, what passes the second port of sw0
  labctl capture left:0 | wireshark -k -i -
  labctl capture left:0 --count 100 --snap 96 -w headers.pcapng";

/// Capture the frames on a cable
///
/// Writes pcapng, which Wireshark and tshark read while it is still being written. It ends at
/// Ctrl-C, after --count frames or with the lab, in any case with a complete file.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A cable, such as left:0, or a switch's port, such as sw0:1
    place: String,

    /// Where the capture goes; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "LABCTL_WRITE")]
    write: PathBuf,

    /// Bytes to keep of each frame
    #[arg(long, value_name = "BYTES", default_value = "65535", env = "LABCTL_SNAP")]
    snap: u32,

    /// End after so many frames
    #[arg(
        long,
        value_name = "FRAMES",
        value_parser = clap::value_parser!(u64).range(1..),
        env = "LABCTL_COUNT"
    )]
    count: Option<u64>,

    #[command(flatten)]
    lab: LabName,
}

/// How long the supervisor may take to send what it has captured so far.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or place, or the capture cannot be written.
pub fn run(args: Args) -> Result<Exit, Error> {
    let to_stdout = args.write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        let error = Error::new(Exit::Usage, "a capture is nothing to read on a terminal");
        return Err(error.help("use -w FILE, or `| tshark -r -`"));
    }
    let frames = super::block_on(async {
        let Args { place, snap, count, .. } = &args;
        let request = Request::Capture { place: place.clone(), snap: *snap, count: *count };
        // Only now: a mistyped place must not cost an older capture its file.
        let (mut reader, writer) = args.lab.connect().await?.bytes(&request).await?;
        let mut sink = Sink::create(&args.write)?;
        note(&format!("capturing on {place}; Ctrl-C ends it"));
        let ended = tokio::select! {
            ended = sink.take_all(&mut reader) => Some(ended),
            () = super::interrupted() => None,
            () = super::reader_gone(), if to_stdout => Some(Ok(())),
        };
        match ended {
            Some(ended) => ended?,
            None => {
                writer.finish().await;
                // What does not come in time is left out, up to the last complete block.
                timeout(LAST_WORDS, sink.take_all(&mut reader)).await.unwrap_or(Ok(()))?;
            }
        }
        Ok::<_, Error>(sink.blocks.frames)
    })??;
    note(&things(frames as usize, "frame"));
    let flag = args.lab.flag();
    next(&match to_stdout {
        true => format!("labctl link show{flag}"),
        false => format!("tshark -r {}", args.write.display()),
    });
    Ok(Exit::Ok)
}

/// Where a capture goes, block by block.
struct Sink<'a> {
    path: &'a Path,
    to: Box<dyn Write>,
    blocks: Blocks,
}

impl<'a> Sink<'a> {
    fn create(path: &'a Path) -> Result<Self, Error> {
        let to: Box<dyn Write> = match path == Path::new("-") {
            true => Box::new(io::stdout()),
            false => Box::new(File::create(path).map_err(|error| cannot_write(path, error))?),
        };
        Ok(Self { path, to, blocks: Blocks::default() })
    }

    /// Writes what comes until it ends, or until nobody reads any more.
    async fn take_all(&mut self, reader: &mut ByteReader) -> Result<(), Error> {
        loop {
            let bytes = reader.next().await.map_err(|error| {
                Error::new(Exit::Failed, "the connection to the supervisor broke").because(error)
            })?;
            if bytes.is_empty() {
                return Ok(());
            }
            let complete = self.blocks.complete(&bytes);
            match self.to.write_all(&complete).and_then(|()| self.to.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(|error| cannot_write(self.path, error))?,
            }
        }
    }
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    super::cannot_write(if path == Path::new("-") { Path::new("stdout") } else { path }, error)
}

/// Cuts a stream of pcapng between blocks (draft-ietf-opsawg-pcapng, "General Block Structure"):
/// a type and a length, both 32 bits of this host's byte order, then the rest.
#[derive(Debug, Default)]
struct Blocks {
    rest: Vec<u8>,
    /// Frames so far.
    frames: u64,
}

impl Blocks {
    const HEADER: usize = 8;
    const ENHANCED_PACKET: u32 = 6;

    /// The blocks that are complete with these bytes.
    fn complete(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut end = 0;
        while let Some((header, _)) = self.rest[end..].split_first_chunk::<{ Self::HEADER }>() {
            let [a, b, c, d, e, f, g, h] = *header;
            let (kind, length) =
                (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
            // No block is shorter than its header; one that says so would be met for ever.
            let length = (length as usize).max(Self::HEADER);
            if self.rest.len() - end < length {
                break;
            }
            self.frames += u64::from(kind == Self::ENHANCED_PACKET);
            end += length;
        }
        self.rest.drain(..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(kind: u32, body: usize) -> Vec<u8> {
        let length = (12 + body) as u32;
        let [kind, length] = [kind, length].map(u32::to_ne_bytes);
        [&kind[..], &length, &vec![7; body], &length].concat()
    }

    proptest! {
        #[test]
        fn only_complete_blocks_are_written(
            bodies in proptest::collection::vec(0usize..20, 1..8),
            cuts in proptest::collection::vec(1usize..30, 1..20),
            missing in 1usize..12,
        ) {
            let blocks: Vec<_> = bodies.iter().map(|body| block(6, body * 4)).collect();
            let all = blocks.concat();
            let (mut rest, mut cuts) = (&all[..all.len() - missing], cuts.iter().cycle());
            let (mut state, mut written) = (Blocks::default(), Vec::new());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                written.extend(state.complete(now));
                rest = later;
            }
            prop_assert_eq!(&written, &blocks[..blocks.len() - 1].concat());
            prop_assert_eq!(state.frames, blocks.len() as u64 - 1);
        }
    }

    #[test]
    fn nonsense_ends() {
        assert_eq!(Blocks::default().complete(&[0; 17]), [0; 16]);
    }
}
