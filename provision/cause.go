package provision

import (
	"errors"
	"regexp"
)

// causes sorts AWS's texts of refused lines. The texts are not documented; these were seen by users and in samples. The
// first pattern that fits wins, so the more particular ones stand first. Names of things and policies stand in the
// texts, so no pattern is content with a word that may well be in a name.
var causes = []struct {
	cause Cause
	text  *regexp.Regexp
}{
	{CauseThrottled, regexp.MustCompile(`(?i)Throttl(ing|ed)Exception|Throttling:|\brate exceeded|too many requests|TooManyRequests|\bSlowDown\b`)},
	{CauseQuota, regexp.MustCompile(`(?i)LimitExceeded|QuotaExceeded|the maximum number of`)},
	{CauseRole, regexp.MustCompile(`(?i)AccessDenied(Exception)?\b|not authorized to perform|UnauthorizedException|ForbiddenException`)},
	{CauseTypeMissing, regexp.MustCompile(`(?i)thing ?type\b.*(not found|does not exist)|deprecated thing type|depreated thing type`)},
	{CauseGroupMissing, regexp.MustCompile(`(?i)(thing|billing) ?group\b.*(not found|does not exist)`)},
	{CausePolicyMissing, regexp.MustCompile(`(?i)policy\b.*(not found|does not exist)`)},
	{CauseConflict, regexp.MustCompile(`(?i)already ?exists|is already (provisioned|registered)|ResourceConflict|ConflictingResource|ConflictException`)},
	{CauseCSRRefused, regexp.MustCompile(`(?i)\bCSR\b|certificate ?signing ?request`)},
	{CauseInvalidTemplate, regexp.MustCompile(`(?i)registration template|cannot resolve reference`)},
	{CauseInvalidValue, regexp.MustCompile(`(?i)validation error|failed to satisfy constraint|InvalidRequest`)},
	{CauseService, regexp.MustCompile(`(?i)internal ?(failure|server|error)|service ?unavailable`)},
}

// classifyFailure sorts the text of a refused line into a cause; CauseOther when it is not known. The code is what a
// report holds beside the text, and may be empty.
func classifyFailure(code, text string) Cause {
	for _, s := range []string{text, code} { // the text is the more particular one
		if s == "" {
			continue
		}
		for _, c := range causes {
			if c.text.MatchString(s) {
				return c.cause
			}
		}
	}
	return CauseOther
}

// causeOf is the cause that err carries, else d.
func causeOf(err error, d Cause) Cause {
	if e, ok := errors.AsType[CauseError](err); ok {
		return e.Cause()
	}
	return d
}
