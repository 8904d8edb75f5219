// Package helm stands in for the module that carries Cilium's own charts, which is not served as a Go module. The CLI
// takes from it what `install` installs, and the newest name in it as that command's default.
package helm

import "embed"

// HelmFS has one chart without content: the CLI ends at once where there is none.
//
//go:embed cilium-0.0.0.tgz
var HelmFS embed.FS
