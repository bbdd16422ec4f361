//! Words of errors.

use dockerpool::Pool;
use dockerpool::testing::{FakeEngine, FakeProcess};
use std::sync::Arc;

async fn fails(process: FakeProcess) -> (FakeEngine, Pool) {
    let engine = FakeEngine::new();
    engine.on_exec(move |_| process.clone());
    let pool = Pool::builder("words")
        .image("any")
        .engine(Arc::new(engine.clone()))
        .build()
        .await
        .unwrap();
    (engine, pool)
}

/// `unwrap()` of such an error prints all of the output, byte by byte.
#[tokio::test]
async fn debug_of_an_error_does_not_hold_the_whole_output() {
    let (_engine, pool) = fails(FakeProcess::exit(1).stdout(vec![b'a'; 1 << 20])).await;
    let c = pool.acquire().await.unwrap();
    let error = c.exec(["x"]).await.unwrap().check().unwrap_err();
    let words = format!("{error:?}");
    assert!(words.len() < 100_000, "Command: {}", words.len());
}

#[tokio::test]
async fn the_last_line_of_standard_error_is_one_harmless_line() {
    for text in [
        b"\x1b]0;title\x07\n".to_vec(),
        b"a\rb".to_vec(),
        b"\xff\xfe\x9b31m".to_vec(),
        vec![b'x'; 1 << 20],
        vec![b'\n'; 1 << 20],
        "a\u{85}b\u{2028}c\u{202e}d".into(),
        "\u{ad}\u{180e}\u{fff9}\u{fffb}\u{3164}\u{115f}\u{e0101}".into(),
    ] {
        let (_engine, pool) = fails(FakeProcess::exit(1).stderr(text)).await;
        let c = pool.acquire().await.unwrap();
        let error = c.exec(["x"]).await.unwrap().check().unwrap_err();
        let words = error.to_string();
        assert!(words.len() < 5000 && !words.contains(char::is_control), "{words:?}");
        for hidden in [
            '\u{ad}',
            '\u{180e}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{3164}',
            '\u{115f}',
            '\u{e0101}',
        ] {
            assert!(!words.contains(hidden), "{hidden:?} is not shown");
        }
    }
}
