package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// keys is where the run keeps its keys, and what takes the credentials over.
type keys struct {
	keystore.Store
	output   provision.Output  // nil leaves certificates in the ledger
	database *sqlitekeys.Store // nil with -keys folders
}

// openKeys opens the folders or the database. A run must find again the keys it has made, so it never changes from one
// to the other.
func (o *options) openKeys(ctx context.Context) (*keys, error) {
	folders, file := filepath.Join(o.dir, "devices"), filepath.Join(o.dir, "keys.db")
	_, noFolders := os.Stat(folders)
	_, noDatabase := os.Stat(file)
	switch {
	case o.keys != "folders" && o.keys != "database":
		return nil, fmt.Errorf("-keys is %q; it must be folders or database", o.keys)
	case o.keys == "folders" && o.export:
		return nil, errors.New("-export is for -keys database; the folders are there without it")
	case o.keys == "folders" && noDatabase == nil:
		return nil, fmt.Errorf("the keys of this run are in %s; give -keys database", file)
	case o.keys == "database" && noDatabase != nil && noFolders == nil:
		return nil, fmt.Errorf("the keys of this run are in %s; leave out -keys database", folders)
	case o.keys == "database":
		database, err := sqlitekeys.Open(ctx, file, &sqlitekeys.Options{NoModes: o.noModes})
		return &keys{Store: database, database: database}, err
	}
	folder, err := o.openFolder(folders)
	return &keys{Store: folder, output: provision.Folder(folder)}, err
}

// openFolder opens a key folder whose folders have the devices' own names.
func (o *options) openFolder(dir string) (*keystore.Folder, error) {
	return keystore.OpenFolder(dir, &keystore.FolderOptions{Name: func(device string) string { return device }, NoModes: o.noModes})
}

func (k *keys) close() error {
	if k.database == nil {
		return nil
	}
	return k.database.Close()
}

// exportDevices writes the folders of -keys folders, out of the database and the ledger. What is there already stays as
// it is.
func (o *options) exportDevices(ctx context.Context, k *keys, job *provision.Run) error {
	folder, err := o.openFolder(filepath.Join(o.dir, "devices"))
	if err != nil {
		return err
	}
	if _, err := keystore.Copy(ctx, folder, k.database); err != nil {
		return err
	}
	_, err = job.Deliver(ctx, provision.Folder(folder))
	return err
}
