//! An XDP program that passes everything, without a compiler for one.

use std::fs;
use std::process::{Command, id};

/// Attaches it to `device` of the calling thread's namespace, by `ip`. The `sort` is `xdpdrv` for
/// native XDP, `xdpgeneric` for generic.
pub fn attach(device: &str, sort: &str) {
    let path = std::env::temp_dir().join(format!("reflector-xdp-{}-{device}.o", id()));
    fs::write(&path, object()).unwrap();
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "dev", device, sort, "obj"]);
    let output = ip.arg(&path).args(["sec", "xdp"]).output();
    fs::remove_file(&path).unwrap();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Takes the program of that `sort` off `device` again.
pub fn detach(device: &str, sort: &str) {
    let mut ip = Command::new("ip");
    let status = ip
        .args(["link", "set", "dev", device, sort, "off"])
        .status();
    assert!(status.unwrap().success());
}

/// The program as libbpf reads it: an ELF object (elf(5)) with one function in the section `xdp`.
fn object() -> Vec<u8> {
    /// Of sections and of the function; those below are offsets into it.
    const NAMES: &[u8] = b"\0xdp\0license\0.strtab\0.symtab\0pass\0";
    const XDP: u32 = 1;
    const LICENSE: u32 = 5;
    const STRINGS: u32 = 13;
    const SYMBOLS: u32 = 21;
    const PASS: u32 = 29;
    const PROGRAM_BITS: u32 = 1;
    const SYMBOL_TABLE: u32 = 2;
    const STRING_TABLE: u32 = 3;
    const ALLOCATED: u64 = 2;
    const EXECUTABLE: u64 = 4;
    const HEADER_LEN: u64 = 64;

    // r0 = XDP_PASS; exit (linux/bpf.h).
    let code = [
        &[0xb7, 0, 0, 0][..],
        &2_i32.to_ne_bytes(),
        &[0x95, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    // No symbol, and a global function at the start of section 1.
    let function = [
        &PASS.to_ne_bytes()[..],
        &[0x12, 0],
        &1_u16.to_ne_bytes(),
        &0_u64.to_ne_bytes(),
        &(code.len() as u64).to_ne_bytes(),
    ]
    .concat();
    let symbols = [vec![0; function.len()], function].concat();

    let mut body = Vec::new();
    let mut table = vec![0; HEADER_LEN as usize];
    for (name, kind, flags, link, entry_len, bytes) in [
        (XDP, PROGRAM_BITS, ALLOCATED | EXECUTABLE, 0, 0, &code[..]),
        (LICENSE, PROGRAM_BITS, ALLOCATED, 0, 0, b"GPL\0"),
        (STRINGS, STRING_TABLE, 0, 0, 0, NAMES),
        (SYMBOLS, SYMBOL_TABLE, 0, 3, 24, &symbols),
    ] {
        body.resize(body.len().next_multiple_of(8), 0);
        let offset = HEADER_LEN + body.len() as u64;
        body.extend(bytes);
        table.extend([name, kind].map(u32::to_ne_bytes).as_flattened());
        table.extend(
            [flags, 0, offset, bytes.len() as u64]
                .map(u64::to_ne_bytes)
                .as_flattened(),
        );
        // For symbols: where their names are, and the first global one.
        table.extend(
            [link, u32::from(link != 0)]
                .map(u32::to_ne_bytes)
                .as_flattened(),
        );
        table.extend([8, entry_len].map(u64::to_ne_bytes).as_flattened());
    }
    body.resize(body.len().next_multiple_of(8), 0);

    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let mut elf = vec![
        0x7f, b'E', b'L', b'F', 2, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    // An object, for BPF.
    elf.extend([1_u16, 247].map(u16::to_ne_bytes).as_flattened());
    elf.extend(1_u32.to_ne_bytes());
    let table_offset = HEADER_LEN + body.len() as u64;
    elf.extend([0, 0, table_offset].map(u64::to_ne_bytes).as_flattened());
    elf.extend(0_u32.to_ne_bytes());
    // Lengths of headers; five sections, of which the third has the names.
    elf.extend(
        [64, 0, 0, 64, 5, 3_u16]
            .map(u16::to_ne_bytes)
            .as_flattened(),
    );
    [elf, body, table].concat()
}
