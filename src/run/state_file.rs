//! placeholder
use crate::verify::snapshot::Snapshot;
use std::path::{Path, PathBuf};
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
}
impl StateFile {
    pub fn reserve(path: &Path, _bytes: u64) -> Result<StateFile, String> {
        Ok(StateFile { path: path.to_owned() })
    }
    pub fn store(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::fs::write(&self.path, bytes)
    }
}
pub fn load(_path: &Path) -> Result<Snapshot, String> {
    Err("no".to_owned())
}
pub fn lies_on(_folder: &Path, _targets: &[PathBuf]) -> Option<PathBuf> {
    None
}
impl Snapshot {
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
}
