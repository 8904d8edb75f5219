/** Of this release; a test holds it equal to package.json, so that every bundle knows it without that file. */
export const VERSION = '0.1.0'
