//go:build !linux

package durable

import "errors"

func moveNew(string, string) error { return errors.ErrUnsupported }

func (osDisk) Whole(string) (Whole, error) { return nil, nil }
