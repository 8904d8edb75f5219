/** Of this release; a test holds it equal to package.json, so that every bundle knows it without that file. */
export const VERSION = '0.1.0'

/** The oldest release that has the texts which are produced when no profile was asked for. */
const OWN_PROFILE = '1.18.0'

/**
 * What an agent says to a tool of Cilium's that asks for its version: the release whose texts it produces, then ours. Those
 * tools read a semantic version up to the first hyphen, and some commands want 1.18 (cilium-cli, encrypt/status.go).
 *
 * @param profile `pellicle-profile`: a release of two or three numbers
 */
export function ciliumVersion(profile: string | undefined): string {
  const [, minor, patch] = /^v?1\.(\d+)(?:\.(\d+))?/.exec(profile ?? '') ?? []
  const release = minor === undefined ? OWN_PROFILE : `1.${minor}.${patch ?? 0}`
  return `${release}-pellicle.${VERSION}`
}
