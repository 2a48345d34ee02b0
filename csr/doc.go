// Package csr makes device keys with certificate signing requests, or with certificates of the user's own CA, one or a
// million, and checks the requests that were made elsewhere before AWS IoT has to refuse them.
//
// [Generator.All] takes devices and yields a key and a signed request (PKCS #10) for each, in the order of the input,
// made by several workers at once and never holding more than a window of them:
//
//	subject, err := csr.ParsePattern("C=US,O=MyOrg,CN={ThingName}")
//	if err != nil {
//		return err
//	}
//	g := csr.Generator{Keys: csr.Software(csr.P256), Subject: subject.Subject}
//	for result, err := range g.All(ctx, devices) {
//		if err != nil {
//			return err // the run ends here: input broken, or ctx cancelled
//		}
//		if result.Err != nil {
//			continue // this device alone
//		}
//		store(result.Device.Name, result.Key, result.Request.PEM())
//	}
//
// The zero Generator works too: P-256 keys and CN=<device name>. Keys that live in an HSM, a KMS or a secure element
// come in through [KeySource]. Requests made by somebody else come in through [Parse], in the forms people hand over.
// Package keystore, below this one, is where keys rest.
//
// With a [CA] in [Generator].CA the result has a certificate in place of the request:
//
//	ca, err := csr.NewCA(caCertificate, caSigner, csr.Profile{Validity: 10 * 365 * 24 * time.Hour})
//
// AWS IoT takes RSA keys of at least 2,048 bits and elliptic curve keys on P-256, P-384 and P-521, in a request of at
// most 4,096 characters:
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html
//
// A [PrivateKey] prints as a placeholder everywhere, and no error repeats key material that was handed in.
package csr
