//! Programs that print control sequences. An error about such a program is one harmless line of bounded length.

use crate::ways::{each, lease_is_sound, run};

#[tokio::test]
async fn control_sequences_of_a_program_are_escaped_in_errors() {
    let script = "import sys\n\
                  sys.stderr.write('first\\n\\x1b]0;owned\\x07\\u202e\\r\\x9b31m' + 'x' * 100000)\n\
                  sys.exit(3)\n";
    each("words", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let output = run(&c, user, script).await.unwrap();
        assert!(
            output.stderr_lossy().contains("\x1b]0;owned"),
            "the output is not escaped"
        );
        let error = output.check().unwrap_err();
        let words = error.to_string();
        assert!(words.contains("\\u{1b}]0;owned\\u{7}"), "{way:?} {user}: {words}");
        let harmful = |c: char| c.is_control() || c == '\u{202e}';
        assert!(
            !words.contains(harmful) && words.len() < 4096,
            "{way:?} {user}: {words:?}"
        );
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}
