use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    path::Path,
};

/// Opens a file to read it. `None`: what is there is no file, but a directory, a pipe or the like.
///
/// Does not wait: to open a pipe would wait for somebody to write to it, and what was a file a moment ago
/// may be a pipe by now. So it is opened first, and then looked at.
pub(crate) fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = match options.open(path) {
        Ok(file) => file,
        // A socket.
        #[cfg(unix)]
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found)))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("mesh-regular-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        std::fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).unwrap();
        symlink(at("pipe"), at("link-to-pipe")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (name, is_file) in [
            ("file", true),
            ("link", true),
            ("pipe", false),
            ("link-to-pipe", false),
            ("socket", false),
            (".", false),
        ] {
            assert_eq!(open(&at(name)).unwrap().is_some(), is_file, "{name}");
        }
        let error = open(&at("nothing")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
