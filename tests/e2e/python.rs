//! The Python client's own tests, against the built program.

use std::path::Path;
use std::process::Command;

use crate::server::Server;
use crate::smollm2::smollm2;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_passes_its_tests() {
    let (Some(file), Some(packages)) = (smollm2(), std::env::var_os("PATCHBAY_TEST_CLIENTS")) else {
        eprintln!("skipped: PATCHBAY_TEST_CLIENTS names no folder with what the client stands on; ./test installs it");
        return;
    };
    let server = Server::start(&["--model", &format!("smollm2={}", file.display())]);
    server.ready().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/python");
    let path = std::env::join_paths([folder.join("src"), packages.into()]).unwrap();
    let ran = Command::new("python3")
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .current_dir(&folder)
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PATCHBAY_URL", server.url())
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(told.contains("passed"), "{told}");
}
