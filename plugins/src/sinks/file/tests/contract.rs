//! The promises of every sink, kept by this one.

use async_trait::async_trait;
use audit_exporter_core::contract::{self, Subject};

use super::*;

struct OnDisk {
    folder: TempDir,
    options: String,
    store: Store,
}

#[async_trait(?Send)]
impl Subject for OnDisk {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(build(&self.options, &self.store, &Clock::system()))
    }

    async fn contents(&self) -> Result<Vec<Bytes>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), self.folder.path(), &mut files);
        let lines = files.values().flat_map(|data| {
            let end = data.strip_suffix(b"\n").unwrap_or(data);
            let lines = end.split(|byte| *byte == b'\n');
            lines
                .filter(|_| !data.is_empty())
                .map(Bytes::copy_from_slice)
        });
        Ok(lines.collect())
    }

    fn exactly_once(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_file_sink_keeps_the_promises_of_every_sink() {
    for more in ["", "rotate_size = \"4KiB\""] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("{tenant}.ndjson");
        let subject = OnDisk {
            options: format!("path = {:?}\n{more}", path.to_str().unwrap()),
            folder,
            store: Store::in_memory(),
        };
        contract::check(&subject).await.unwrap();
    }
}
