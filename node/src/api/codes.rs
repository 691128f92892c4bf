//! Every error code of the API: its HTTP status, the exit code of a command that meets it, what it
//! means, and what to do. The table in `docs/api.md` is this one; a test compares them.

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The stable word.
    pub word: &'static str,
    /// HTTP status.
    pub status: u16,
    /// How a command ends that meets it; the codes are `cli::exit`'s.
    pub exit: u8,
    /// What it means.
    pub meaning: &'static str,
    /// What to do, where one thing fits all cases.
    pub hint: Option<&'static str>,
}

const fn code(word: &'static str, status: u16, exit: u8, meaning: &'static str) -> Code {
    Code { word, status, exit, meaning, hint: None }
}

impl Code {
    const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// The way out for a node of which too many hosts are gone. Only a node that does not write gives hosts
/// up: it starts from what the others show.
const GIVE_UP: &str = "if hosts are gone for good and this node cannot write without them, go on with the same words \
     in an empty data folder: `samara recover start --give-up-silent --data EMPTY` gives them up";
const NO_QUORUM: &str = "the change is kept and goes through by itself once enough hosts answer: `samara status` shows that it waits, \
     `samara hosts` who does not answer. Nothing that was acknowledged is lost. Only if hosts are gone for good: a node with the \
     same words in an empty data folder, `samara recover start --data EMPTY`, says whether they can be given up";

/// All codes, by their word.
pub const CODES: &[Code] = &[
    code("active", 409, 4, "this node writes already: there is nothing to recover")
        .hint(GIVE_UP),
    code("archive_additional", 400, 1, "an archive has an entry that its manifest does not name"),
    code("archive_bad_document", 400, 1, "a document of an archive does not read, or does not fit to the rest"),
    code("archive_bad_encryption", 400, 1, "an archive is encrypted in a way that no passphrase opens"),
    code("archive_bad_history", 400, 1, "the events of an archive do not follow each other"),
    code("archive_bad_name", 400, 1, "an entry of an archive has a name that none may have"),
    code("archive_bad_order", 400, 1, "an entry of an archive is twice in it, or at another place than its own"),
    code("archive_bad_signature", 400, 1, "the signature of an archive does not hold"),
    code("archive_bad_zip", 400, 1, "the ZIP structure of an archive is not one that is taken"),
    code("archive_bomb", 400, 1, "an entry of an archive would become much larger than it is"),
    code("archive_damaged", 400, 1, "an entry of an archive is not what the manifest says"),
    code("archive_encrypted", 400, 12, "an archive is encrypted, and no passphrase was given"),
    code("archive_event_missing", 400, 1, "the events of an archive have a gap"),
    code("archive_failed", 500, 1, "an archive could not be made"),
    code("archive_incomplete", 400, 1, "something is missing from an archive"),
    code("archive_newer", 400, 1, "an archive is of a newer format than this program reads"),
    code("archive_no_format", 400, 1, "a ZIP file is no archive of a vault"),
    code("archive_not_encrypted", 400, 2, "a passphrase was given for an archive that is not encrypted"),
    code("archive_not_zip", 400, 1, "a file is no ZIP file"),
    code("archive_too_large", 400, 1, "an archive is larger than is taken"),
    code("archive_truncated", 400, 1, "an archive is cut off"),
    code("archive_unreadable", 500, 1, "an archive cannot be read"),
    code("backup_lost", 500, 1, "the hosts have lost what a backup builds upon")
        .hint("delete it and make another"),
    code("bad_allowance", 400, 2, "the allowance makes no sense"),
    code("bad_description", 400, 2, "a backup's description is too long"),
    code("bad_email", 400, 2, "the text is no e-mail address"),
    code("bad_key", 400, 2, "an Idempotency-Key is not one text of 1 to 128 visible characters"),
    code("bad_name", 400, 2, "a vault, backup, file, user or token cannot have this name"),
    code("bad_password", 400, 2, "the password is too short or too long"),
    code("bad_path", 400, 2, "the text is no path in a vault, or a move would lead into or onto itself"),
    code("bad_pattern", 400, 2, "an exclusion is no glob"),
    code("bad_policy", 400, 2, "a policy makes no sense"),
    code("bad_range", 416, 2, "the range does not lie in the file"),
    code("bad_role", 400, 2, "a token cannot do more than its user"),
    code("bad_tags", 400, 2, "a backup has too many tags, or one that none can be"),
    code("bad_url", 400, 2, "the URL is none that is fetched"),
    code("busy", 503, 5, "too many are served at a time: tokens and passwords being checked, event streams, or downloads by link"),
    code("cancelled", 409, 130, "somebody cancelled it"),
    code("chain_false", 500, 1, "a chain peer's answer does not verify"),
    code("chain_unreachable", 503, 5, "no chain peer answers")
        .hint("check that the network is up and the peers in network.toml are right"),
    code("changing", 409, 4, "a file changes while it is read"),
    code("checkpoint_unreadable", 500, 1, "the checkpoint that older metadata lies in cannot be read")
        .hint("see `samara hosts` for who does not answer, and try again when they do"),
    code("conflict", 409, 4, "the change does not follow from what there is"),
    code("contract_out_of_money", 409, 4, "a contract's money is used up")
        .hint("raise it with `samara allowance set --funds COINS`: contracts with too little are renewed at once"),
    code("contract_table", 500, 1, "the renter's table of contracts cannot be used"),
    code("contractor", 500, 1, "a contract could not be formed, renewed or used"),
    code("download_failed", 500, 1, "bytes could not be fetched from the hosts"),
    code("drill_failed", 500, 1, "a drill did not pass, or its own renter could not be opened")
        .hint("see `samara drill show`"),
    code("drill_running", 409, 4, "a drill is under way"),
    code("drill_schedule_unreadable", 500, 1, "the schedule of drills is not one that this program reads")
        .hint("set it anew with `samara drill schedule`"),
    code("exists", 409, 4, "a name or path is taken"),
    code("fenced", 409, 7, "another node has taken over these words")
        .hint("use the other node, or take over again with `samara recover start`"),
    code("fetch_failed", 503, 5, "a file could not be fetched from its URL"),
    code("fetch_too_large", 409, 4, "the file at a URL is larger than is taken"),
    code("file_failed", 500, 1, "a file of this machine cannot be read or written"),
    code("forbidden", 403, 4, "the token's role is not enough")
        .hint("ask an administrator; `samara whoami` says what this token may do"),
    code("forbidden_address", 409, 4, "a URL leads to an address that is not dialled"),
    code("hash_mismatch", 500, 1, "bytes that came back are not what was stored"),
    code("heads_full", 503, 5, "the heads at the hosts are full until more hosts answer; nothing was changed")
        .hint("try again once more hosts answer: `samara hosts` shows who does not"),
    code("internal", 500, 1, "a defect of the program"),
    code("interrupted", 409, 130, "stopped by the user"),
    code("invalid", 400, 2, "the request cannot be read"),
    code("is_folder", 409, 4, "a folder where a file was meant")
        .hint("add --recursive to remove it with all in it"),
    code("journal_broken", 500, 1, "the journal that the hosts hold does not follow"),
    code("journal_damaged", 500, 1, "the local journal is damaged")
        .hint("stop the node, delete `renter.redb` in its data folder, and start it again: it is brought back from the words"),
    code("key_in_doubt", 409, 4, "it is not known what came of the first request with an Idempotency-Key")
        .hint("look at the list of what it was to make; if that is not there, send it again with a new key"),
    code("key_in_use", 409, 4, "the first request with an Idempotency-Key is under way")
        .hint("send the same again later: it is answered as the first was"),
    code("key_not_taken", 400, 2, "a route takes no Idempotency-Key"),
    code("key_reused", 422, 2, "an Idempotency-Key was used for another request"),
    code("limit_reached", 409, 4, "the vault has as many backups of this kind as it may")
        .hint("delete one with `samara backup delete`, or raise the limit with `samara backup limit`"),
    code("method_not_allowed", 405, 4, "a route does not have the method"),
    code("name_clash", 409, 4, "a path would be a file and a folder at the same time")
        .hint("move or remove what is there first"),
    code("name_taken", 409, 4, "another file took a name while the one for it was fetched"),
    code("no_allowance", 409, 4, "no allowance is set")
        .hint("set one with `samara allowance set --hosts N --funds COINS`"),
    code("no_backup", 404, 10, "there is no such backup").hint("see `samara backup list`"),
    code("no_checkpoint", 503, 5, "the checkpoint of a backup is not at the hosts yet")
        .hint("it is written when enough hosts answer; see `samara hosts`"),
    code("no_destination", 400, 2, "a restore has nowhere to go"),
    code("no_drill", 404, 10, "there is no report of such a drill")
        .hint("see `samara drill list`"),
    code("no_epoch_left", 500, 1, "a host promised the last epoch there can be"),
    code("no_head", 503, 5, "no host shows a head that opens"),
    code("no_history", 500, 1, "the journal does not reach back to the backup"),
    code("no_host_answers", 503, 5, "no host answers the recovery"),
    code("no_hosts", 503, 5, "there is no live contract")
        .hint("see `samara contracts` and `samara allowance show`"),
    code("no_link", 404, 10, "there is no such download link, or it has ended")
        .hint("see `samara backup link --list`"),
    code("no_money", 409, 4, "the account has too little money")
        .hint("see `samara wallet show`; on a test network `samara wallet faucet` gives coins"),
    code("no_policy", 404, 10, "there is no such policy").hint("see `samara policy list`"),
    code("no_quorum", 503, 5, "too few hosts hold the change yet; it goes through by itself once enough answer")
        .hint(NO_QUORUM),
    code("no_restore", 404, 10, "there is no such restore")
        .hint("see `samara restore list`"),
    code("no_role", 409, 4, "this node does not have the role"),
    code("no_room", 409, 4, "this machine's disk has too little room for a drill"),
    code("no_scope", 400, 2, "an archive is of one vault"),
    code("no_source", 404, 10, "there is no such file or folder on this machine"),
    code("no_token", 404, 10, "there is no such token, or it is somebody else's")
        .hint("see `samara token list`"),
    code("no_user", 404, 10, "there is no such user").hint("see `samara user list`"),
    code("no_vault", 404, 10, "there is no such vault")
        .hint("see `samara vault list`; make one with `samara vault create`"),
    code("no_version", 404, 10, "the file has no such version").hint("see `samara ls --versions`"),
    code("not_a_file", 409, 4, "a link or a device: neither is stored"),
    code("not_announced", 409, 4, "an archive has something else than was announced"),
    code("not_found", 404, 10, "there is no such file, host or route"),
    code("not_started", 409, 4, "it is not known yet what these words own")
        .hint("`samara recover start` finds out; for words that were never used it starts new"),
    code("nothing_found", 404, 8, "the chain holds nothing for these words"),
    code("partial", 500, 3, "done in part"),
    code("quote_exceeded", 409, 4, "it would cost more than was agreed to, and was given up")
        .hint("ask for another quote"),
    code("read_only", 409, 4, "this node was recovered for reading")
        .hint("`samara recover start` takes over, once enough hosts answer"),
    code("recovering", 409, 4, "a recovery is under way").hint("see `samara recover status`"),
    code("refused", 409, 4, "not allowed, or not on this network"),
    code("running", 409, 4, "a recovery runs already").hint("see `samara recover status`"),
    code("segment_missing", 503, 5, "a part of the journal cannot be fetched"),
    code("stale_quote", 409, 4, "the quote is too old, or of something else")
        .hint("ask for another quote"),
    code("started", 409, 4, "this node has started already"),
    code("stopped", 503, 130, "the operation was stopped, or the node is stopping"),
    code("store_failed", 500, 1, "the node's own disk failed"),
    code("too_expensive", 409, 4, "it would cost more than its policy pays")
        .hint("raise it with `samara policy edit NAME --max-cost COINS`"),
    code("too_few_contracts", 503, 5, "fewer contracts than a slab needs")
        .hint("see `samara contracts` and `samara allowance show`"),
    code("too_few_hosts", 503, 5, "too few hosts answer")
        .hint(
            "see `samara hosts`; wait for hosts, allow others with `samara allowance set --hosts N`, or \
             lower the redundancy there with --redundancy K/N",
        ),
    code("too_large", 409, 4, "a change is larger than one round takes"),
    code("too_many", 409, 4, "there are as many users, tokens, download links or restores as there can be"),
    code("too_many_policies", 409, 4, "there are as many policies as there may be")
        .hint("delete one with `samara policy delete`"),
    code("too_many_tries", 429, 4, "too many tries to log in with this e-mail address"),
    code("transaction_dropped", 500, 1, "a transaction was dropped before a block took it"),
    code("transaction_refused", 409, 4, "the chain refuses a transaction"),
    code("unauthorized", 401, 1, "the request shows no token, or one that is not valid; or a login is wrong"),
    code("unfit", 409, 4, "it is not in a state in which this can be done"),
    code("unknown_slab", 500, 1, "a file refers to a slab that the journal does not know"),
    code("unreachable", 503, 5, "the node does not answer"),
    code("upload_failed", 500, 1, "bytes could not be stored with the hosts"),
    code("wrong_passphrase", 400, 12, "the passphrase is not that of the archive"),
];

/// The entry of a code.
#[must_use]
pub fn find(word: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.word == word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn read(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    /// Rows of the first table after a heading, as lists of cells.
    fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
        let rest = text.split_once(heading).unwrap().1;
        let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
        let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
        let cells = |line: &str| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        rows.map(cells).collect()
    }

    #[test]
    fn codes_are_ordered_and_have_exits_and_statuses() {
        assert!(CODES.windows(2).all(|pair| pair[0].word < pair[1].word));
        for code in CODES {
            assert!(axum::http::StatusCode::from_u16(code.status).is_ok_and(|s| !s.is_success()));
            let exits = crate::cli::exit::Exit::TABLE.map(|(exit, _)| exit as u8);
            assert!(exits.contains(&code.exit) && code.exit != 0, "{}", code.word);
        }
    }

    #[test]
    fn the_documented_codes_are_these() {
        let documented = table(&read("../docs/api.md"), "## Error codes");
        let expected: Vec<Vec<String>> = CODES
            .iter()
            .map(|code| {
                let word = format!("`{}`", code.word);
                let numbers = [code.status.to_string(), code.exit.to_string()];
                [&[word][..], &numbers, &[code.meaning.to_owned()]].concat()
            })
            .collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn the_documented_exit_codes_are_the_programs() {
        let documented = table(&read("../docs/users.md"), "## Exit codes");
        let expected: Vec<Vec<String>> = crate::cli::exit::Exit::TABLE
            .iter()
            .map(|(exit, meaning)| vec![(*exit as u8).to_string(), (*meaning).to_owned()])
            .collect();
        assert_eq!(documented, expected);
    }

    #[test]
    fn the_documented_losses_are_those_of_the_quorums() {
        use samara_protocol::journal::quorum::Quorum;
        use samara_renter::transfer::Redundancy;

        let documented = table(&read("../docs/users.md"), "may be lost:");
        let row = |lost: fn(usize) -> usize| -> Vec<String> {
            (2..=9).map(|hosts| lost(hosts).to_string()).collect()
        };
        let expected = [
            row(|n| {
                let shape = Redundancy::for_hosts(n);
                n - usize::from(shape.data + shape.margin)
            }),
            row(|n| n - Quorum::of(n).write),
            row(|n| n - Quorum::of(n).read),
        ];
        let numbers: Vec<&[String]> = documented.iter().map(|row| &row[1..]).collect();
        assert_eq!(numbers, expected);
    }

    /// Words between quotation marks that follow a marker.
    fn quoted_after(text: &str, marker: &str) -> Vec<String> {
        let found = text.split(marker).skip(1).filter_map(|rest| {
            let word: String = rest.chars().take_while(|c| *c != '"').collect();
            word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(word)
        });
        found.collect()
    }

    /// All files below a folder.
    fn files(folder: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(folder)]);
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
            let paths = entries.unwrap().map(|entry| entry.unwrap().path());
            let (below, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
            folders.extend(below);
            found.extend(files);
        }
        found
    }

    #[test]
    fn every_code_that_the_program_gives_is_listed() {
        let mut given = BTreeSet::new();
        for path in [files("src"), files("../renter/src")].concat() {
            if path.ends_with("error.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                given.extend(quoted_after(&text, "=> \""));
            }
        }
        for path in files("src/api") {
            let text = std::fs::read_to_string(path).unwrap();
            let text: String = text.split_whitespace().collect::<Vec<_>>().join("");
            for marker in ["ApiError::new(\"", "code:\""] {
                given.extend(quoted_after(&text, marker));
            }
        }
        assert!(given.len() > 40, "{given:?}");
        let listed: BTreeSet<String> = CODES.iter().map(|code| code.word.to_owned()).collect();
        let missing: Vec<_> = given.difference(&listed).filter(|word| !word.is_empty()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
