package iam

import "fmt"

// Error is IAM's refusal of a request.
type Error struct {
	Code    string // such as NoSuchEntity
	Message string // IAM's kind of text
	Status  int    // HTTP status
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func noSuchEntity(format string, args ...any) *Error {
	return &Error{"NoSuchEntity", fmt.Sprintf(format, args...), 404}
}

func alreadyExists(format string, args ...any) *Error {
	return &Error{"EntityAlreadyExists", fmt.Sprintf(format, args...), 409}
}

func deleteConflict(message string) *Error { return &Error{"DeleteConflict", message, 409} }

func limitExceeded(format string, args ...any) *Error {
	return &Error{"LimitExceeded", fmt.Sprintf(format, args...), 409}
}

func invalidInput(format string, args ...any) *Error {
	return &Error{"InvalidInput", fmt.Sprintf(format, args...), 400}
}

func validation(value, member, constraint string) *Error {
	return &Error{"ValidationError", fmt.Sprintf("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s",
		value, member, constraint), 400}
}

// notARN is the refusal of a policy that is not named by an ARN.
func notARN() *Error {
	return &Error{"ValidationError", "Invalid ARN:  Could not be parsed!", 400}
}

func accessDenied(format string, args ...any) *Error {
	return &Error{"AccessDenied", fmt.Sprintf(format, args...), 403}
}

// name checks the name of a role or policy: at most most characters of IAM's set.
func name(value, member string, most int) error {
	if value == "" {
		return validation(value, member, "Member must have length greater than or equal to 1")
	}
	for i := range len(value) {
		c := value[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			continue
		}
		switch c {
		case '_', '+', '=', ',', '.', '@', '-':
			continue
		}
		return validation(value, member, `Member must satisfy regular expression pattern: [\w+=,.@-]+`)
	}
	if len(value) > most {
		return validation(value, member, fmt.Sprintf("Member must have length less than or equal to %d", most))
	}
	return nil
}

// path checks the path of a role or policy: / or /…/ of visible ASCII.
func path(value string) error {
	bad := validation(value, "path", `Member must satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)`)
	if len(value) > 512 {
		return validation(value, "path", "Member must have length less than or equal to 512")
	}
	if value == "/" {
		return nil
	}
	if len(value) < 3 || value[0] != '/' || value[len(value)-1] != '/' {
		return bad
	}
	for i := range len(value) {
		if value[i] < 0x21 || value[i] > 0x7e {
			return bad
		}
	}
	return nil
}
