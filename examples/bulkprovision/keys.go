package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// keys is where the run keeps its keys, and what takes the credentials over.
type keys struct {
	keystore.Store
	output  provision.Output  // nil leaves certificates in the ledger
	archive *keystore.Archive // nil with -keys folders
}

// openKeys opens the folders or the archive. A run must find again the keys it has made, so it never changes from one to
// the other.
func (o *options) openKeys() (*keys, error) {
	folders, file := filepath.Join(o.dir, "devices"), filepath.Join(o.dir, "fleet.keys")
	_, noFolders := os.Stat(folders)
	_, noArchive := os.Stat(file)
	switch {
	case o.keys != "folders" && o.keys != "archive":
		return nil, fmt.Errorf("-keys is %q; it must be folders or archive", o.keys)
	case o.keys == "folders" && o.export:
		return nil, errors.New("-export is for -keys archive; the folders are there without it")
	case o.keys == "folders" && noArchive == nil:
		return nil, fmt.Errorf("the keys of this run are in %s; give -keys archive", file)
	case o.keys == "archive" && noArchive != nil && noFolders == nil:
		return nil, fmt.Errorf("the keys of this run are in %s; leave out -keys archive", folders)
	case o.keys == "archive":
		archive, err := keystore.OpenArchive(file, nil)
		return &keys{Store: archive, archive: archive}, err
	}
	folder, err := keystore.OpenFolder(folders, nil)
	return &keys{Store: folder, output: provision.Folder(folder)}, err
}

func (k *keys) close() error {
	if k.archive == nil {
		return nil
	}
	return k.archive.Close()
}

// exportDevices writes the folders of -keys folders, out of archive and ledger. What is there already stays as it is.
func (o *options) exportDevices(ctx context.Context, k *keys, job *provision.Run) error {
	dir := filepath.Join(o.dir, "devices")
	if _, err := k.archive.Export(ctx, dir); err != nil {
		return err
	}
	folder, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		return err
	}
	_, err = job.Deliver(ctx, provision.Folder(folder))
	return err
}
