//go:build !unix

package keystore_test

func withUmask(_ int, f func()) { f() }
