package csr

import (
	"context"
	"crypto"
)

// KeySource returns the key of a device. [Software] makes keys in this process; an HSM, a KMS or a secure element is
// plugged in by implementing this one method.
//
// Signer is called from several goroutines at once, once for each device; hold the [Generator.Workers] down where the
// hardware has few sessions. It should return soon after ctx ends. The returned signer has a public key that AWS IoT
// takes (P-256, P-384, P-521, RSA of at least 2,048 bits) and returns ECDSA signatures in their ASN.1 form, as
// [crypto.Signer] wants; PKCS #11 modules return r and s side by side, to be converted. What it signs is verified
// before it is used.
//
// A signer that is not a *ecdsa.PrivateKey or *rsa.PrivateKey counts as a key that cannot be exported: its request can
// be stored and sent, and the key stays where it is. So do not wrap software keys in a type of your own.
type KeySource interface {
	Signer(ctx context.Context, device string) (crypto.Signer, error)
}

// DeviceKeySource is a [KeySource] that needs to know more of a device than its name, such as the slot or the customer in
// its row. It is asked with DeviceSigner in place of Signer; the same promises hold. It must not change the device.
type DeviceKeySource interface {
	KeySource
	DeviceSigner(ctx context.Context, device Device) (crypto.Signer, error)
}

// Software makes a new key in this process on every call, with the operating system's randomness. The empty algorithm
// means [P256]; an unknown one is an [ErrAlgorithm] at the first key.
func Software(alg Algorithm) KeySource { return software{alg} }

type software struct{ alg Algorithm }

func (s software) Signer(ctx context.Context, _ string) (crypto.Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.alg.generate()
}
