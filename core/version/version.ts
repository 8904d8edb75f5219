import manifest from '../../package.json' with { type: 'json' }

/** Of this release, from package.json; part of every bundle. */
export const VERSION: string = manifest.version
