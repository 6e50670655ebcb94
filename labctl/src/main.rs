//! The `labctl` command; everything it does is in the library.

use labctl::error::Exit;

fn main() -> Exit {
    labctl::cli::main()
}
