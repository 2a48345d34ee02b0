// Package s3 is Amazon S3 in memory, as far as the fake needs it: buckets in regions, objects with their digests,
// conditional writes, copies, multipart uploads, listings, and presigned links for reading.
//
//	store := s3.New()
//	err := store.CreateBucket("fleet", "eu-central-1", "123456789012", now)
//	object, err := store.Put(s3.PutInput{Bucket: "fleet", Key: "devices.json", Body: file}, now)
//	page, err := store.List(s3.ListInput{Bucket: "fleet", Prefix: "devices"})
//
// An object is one version, whole and unchanging: whoever holds an [Object] reads the same bytes for ever, whatever is
// put under its key meanwhile. The store refuses what S3 refuses with an [*Error] of S3's code and status. Not
// modelled: versions, locks, access policies and lists, life cycles, replication, and the encryption itself (what was
// asked for is kept and given back).
//
// AWS: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
package s3
