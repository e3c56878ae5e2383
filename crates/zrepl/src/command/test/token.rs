//! `zrepl test decoderesumetoken`

use std::io::{Write, stdout};

use anyhow::{Context, Result};
use model::view::{TokenContents, TokenFlags};
use serde::Serialize;
use serde_json::json;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::command_line::test::TokenTest;

/// Prints what a resume token says. No pool is asked.
pub(crate) fn run(test: &TokenTest) -> Result<()> {
    let token = test.token.as_ref().or(test.token_option.as_ref()).map(String::as_str).unwrap_or_default();
    let token = zfs::token::ResumeToken::decode(token.trim()).context("cannot decode the resume token")?;
    let mut text = Vec::new();
    match test.json {
        true => serde_json::to_writer_pretty(&mut text, &whole(&token))?,
        false => {
            let formatter = PrettyFormatter::with_indent(b" ");
            Brief::of(&token.contents).serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
        }
    }
    text.push(b'\n');
    stdout().write_all(&text).context("cannot write to standard output")
}

fn whole(token: &zfs::token::ResumeToken) -> serde_json::Value {
    let TokenContents { from, to, to_name, bytes_received, flags } = &token.contents;
    let TokenFlags { raw, compressed, embedded, large_blocks, saved } = *flags;
    json!({
        "version": 1,
        "from_guid": from.map(|guid| guid.0),
        "to_guid": to.0,
        "to_name": to_name,
        "bytes_received": bytes_received,
        "object": token.object,
        "offset": token.offset,
        "raw": raw,
        "compressed": compressed,
        "embedded": embedded,
        "large_blocks": large_blocks,
        "saved": saved,
    })
}

/// What zrepl 0.7 prints, in its order.
#[derive(Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "two per key of the token")]
struct Brief<'a> {
    #[serde(rename = "HasFromGUID")]
    has_from: bool,
    #[serde(rename = "HasToGUID")]
    has_to: bool,
    #[serde(rename = "FromGUID")]
    from: u64,
    #[serde(rename = "ToGUID")]
    to: u64,
    #[serde(rename = "ToName")]
    to_name: &'a str,
    #[serde(rename = "HasCompressOK")]
    has_compress: bool,
    #[serde(rename = "CompressOK")]
    compress: bool,
    #[serde(rename = "HasRawOk")]
    has_raw: bool,
    #[serde(rename = "RawOK")]
    raw: bool,
    #[serde(rename = "HasLargeBlockOK")]
    has_large_block: bool,
    #[serde(rename = "LargeBlockOK")]
    large_block: bool,
    #[serde(rename = "HasEmbedOk")]
    has_embed: bool,
    #[serde(rename = "EmbedOK")]
    embed: bool,
    #[serde(rename = "HasSavedOk")]
    has_saved: bool,
    #[serde(rename = "SavedOk")]
    saved: bool,
}

impl<'a> Brief<'a> {
    fn of(token: &'a TokenContents) -> Self {
        let TokenFlags { raw, compressed, embedded, large_blocks, saved } = token.flags;
        Self {
            has_from: token.from.is_some(),
            has_to: true,
            from: token.from.map_or(0, |guid| guid.0),
            to: token.to.0,
            to_name: &token.to_name,
            has_compress: compressed,
            compress: compressed,
            has_raw: raw,
            raw,
            has_large_block: large_blocks,
            large_block: large_blocks,
            has_embed: embedded,
            embed: embedded,
            has_saved: saved,
            saved,
        }
    }
}
