/*
 * saAis.h - what all services of the Application Interface Specification (AIS) have in common
 *
 * Scalars, names, versions, time, error codes and dispatch flags, with the values and the layout the specification
 * fixes (SAI-AIS-B.01.01 to B.04.01): a program compiled against this header runs with every implementation that keeps
 * to them, and the other way round. C11 and C++.
 */
#ifndef SA_AIS_H
#define SA_AIS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Scalars ------------------------------------------------------------------------------------------------- */

typedef int8_t SaInt8T;
typedef int16_t SaInt16T;
typedef int32_t SaInt32T;
typedef int64_t SaInt64T;
typedef uint8_t SaUint8T;
typedef uint16_t SaUint16T;
typedef uint32_t SaUint32T;
typedef uint64_t SaUint64T;
typedef float SaFloatT;
typedef double SaDoubleT;

/** Text with a NUL at its end. */
typedef char *SaStringT;
typedef const char *SaConstStringT;

/** A number of bytes. */
typedef SaUint64T SaSizeT;
/** A distance in bytes from a beginning. */
typedef SaUint64T SaOffsetT;
/** The caller's own number for an asynchronous call; its callback brings it back unchanged. 0 is as good as any. */
typedef SaUint64T SaInvocationT;
/** A file descriptor to poll for reading: readable while a callback waits to be dispatched. */
typedef SaUint64T SaSelectionObjectT;

typedef enum { SA_FALSE = 0, SA_TRUE = 1 } SaBoolT;

/** Bytes of any kind. */
typedef struct {
    SaSizeT bufferSize;
    SaUint8T *bufferAddr;
} SaAnyT;

/* ---- Time ---------------------------------------------------------------------------------------------------- */

/** Nanoseconds: since 1970-01-01 00:00 UTC where a point in time is meant, else a duration. */
typedef SaInt64T SaTimeT;

#define SA_TIME_BEGIN ((SaTimeT)0)
/** The end of time: "never" as a point in time, "for ever" as a duration or timeout. */
#define SA_TIME_END ((SaTimeT)0x7FFFFFFFFFFFFFFFLL)
#define SA_TIME_MAX SA_TIME_END
#define SA_TIME_UNKNOWN (-SA_TIME_END - 1)

#define SA_TIME_ONE_MICROSECOND ((SaTimeT)1000LL)
#define SA_TIME_ONE_MILLISECOND ((SaTimeT)1000000LL)
#define SA_TIME_ONE_SECOND ((SaTimeT)1000000000LL)
#define SA_TIME_ONE_MINUTE ((SaTimeT)60000000000LL)
#define SA_TIME_ONE_HOUR ((SaTimeT)3600000000000LL)
#define SA_TIME_ONE_DAY ((SaTimeT)86400000000000LL)

/** The value of a limit that a service can be asked for. */
typedef union {
    SaInt64T int64Value;
    SaUint64T uint64Value;
    SaTimeT timeValue;
    SaFloatT floatValue;
    SaDoubleT doubleValue;
} SaLimitValueT;

/* ---- Versions ------------------------------------------------------------------------------------------------ */

/**
 * The version of a service's interface, "B.02.02" being {'B', 2, 2}.
 *
 * Given to a service's Initialize function with the release and the major version the program was written for; the
 * minor one is not looked at. What the function offers in that version is what the program gets. The structure is
 * replaced by the newest version offered of that release, also where SA_AIS_ERR_VERSION is returned; of another release
 * if it offers none of that one.
 */
typedef struct {
    SaUint8T releaseCode;
    SaUint8T majorVersion;
    SaUint8T minorVersion;
} SaVersionT;

/* ---- Names --------------------------------------------------------------------------------------------------- */

/** Bytes of a name in a structure of the plain form. */
#define SA_MAX_UNEXTENDED_NAME_LENGTH 256

#ifdef SA_EXTENDED_NAME_SOURCE

/**
 * A name in the extended form, for programs that define SA_EXTENDED_NAME_SOURCE: only saAisNameLend() and
 * saAisNameBorrow() touch what is in it. A name below 256 bytes is stored as in the plain form, with a NUL behind it;
 * of a longer one (the long form) only the address. The structure has the same size as the plain one.
 */
typedef struct {
    SaUint16T _opaque[129];
} SaNameT;

#else

#define SA_MAX_NAME_LENGTH SA_MAX_UNEXTENDED_NAME_LENGTH

/** A name: `length` bytes of `value`, 1 to 256. A NUL is not needed, and one within the length belongs to the name. */
typedef struct {
    SaUint16T length;
    SaUint8T value[SA_MAX_NAME_LENGTH];
} SaNameT;

#endif

/**
 * Puts text into a name.
 *
 * Names of the long form have to be allowed for the whole process by SA_ENABLE_EXTENDED_NAMES=1 in its environment
 * before the first call of a library of AIS; without it functions that are given one refuse it. How long a name may be
 * is each service's to say.
 *
 * @param value  text with a NUL at its end. It is copied if it is shorter than 256 bytes; else it is lent: it must stay
 *               as it is for as long as the name is used.
 * @param name   any memory of the structure's size; what was in it is overwritten.
 */
void saAisNameLend(SaConstStringT value, SaNameT *name);

/**
 * The text of a name, with a NUL at its end.
 *
 * @return Memory of the name itself, or the text that was lent to it: valid as long as both are. NULL if the name is
 *         none that this library may read.
 */
SaConstStringT saAisNameBorrow(const SaNameT *name);

/* ---- Error codes --------------------------------------------------------------------------------------------- */

/**
 * What a function has to say. Success is 1, and 0 is never returned.
 *
 * A program gets no code that is newer than the version it initialised the service with.
 */
typedef enum {
    /** Done. */
    SA_AIS_OK = 1,
    /** Something is wrong inside the library or the service; it can not be used any more as it is. */
    SA_AIS_ERR_LIBRARY = 2,
    /** The version asked for is not offered. */
    SA_AIS_ERR_VERSION = 3,
    /** A callback that the call needs was not given to Initialize. */
    SA_AIS_ERR_INIT = 4,
    /** Not done in time: whether it happened, or will, is unknown. */
    SA_AIS_ERR_TIMEOUT = 5,
    /** Not now, nothing happened: call again after a moment. */
    SA_AIS_ERR_TRY_AGAIN = 6,
    /** An argument is wrong. */
    SA_AIS_ERR_INVALID_PARAM = 7,
    /** The library or the service has no memory. */
    SA_AIS_ERR_NO_MEMORY = 8,
    /** The handle is none, was closed, or its parent was. */
    SA_AIS_ERR_BAD_HANDLE = 9,
    /** Somebody else has it. */
    SA_AIS_ERR_BUSY = 10,
    /** The way it was opened does not allow that. */
    SA_AIS_ERR_ACCESS = 11,
    /** There is no such thing. */
    SA_AIS_ERR_NOT_EXIST = 12,
    /** The name is longer than the service allows. */
    SA_AIS_ERR_NAME_TOO_LONG = 13,
    /** There is one already. */
    SA_AIS_ERR_EXIST = 14,
    /** A buffer, or the room that was set aside, is too small. */
    SA_AIS_ERR_NO_SPACE = 15,
    /** Another thread ended the wait. */
    SA_AIS_ERR_INTERRUPT = 16,
    /** The name is not known. */
    SA_AIS_ERR_NAME_NOT_FOUND = 17,
    /** The service lacks something else than memory, such as descriptors. */
    SA_AIS_ERR_NO_RESOURCES = 18,
    /** This implementation does not do that. */
    SA_AIS_ERR_NOT_SUPPORTED = 19,
    /** Not with this object, or not in its state. */
    SA_AIS_ERR_BAD_OPERATION = 20,
    /** It was tried and failed. */
    SA_AIS_ERR_FAILED_OPERATION = 21,
    /** A message could not be carried. */
    SA_AIS_ERR_MESSAGE_ERROR = 22,
    /** The queue has no room. */
    SA_AIS_ERR_QUEUE_FULL = 23,
    /** No queue takes the message. */
    SA_AIS_ERR_QUEUE_NOT_AVAILABLE = 24,
    /** Flags that do not exist, or do not go together. */
    SA_AIS_ERR_BAD_FLAGS = 25,
    /** More than the service can take. */
    SA_AIS_ERR_TOO_BIG = 26,
    /** An iteration is at its end, or there are no sections. */
    SA_AIS_ERR_NO_SECTIONS = 27,
    /** There was nothing to do. */
    SA_AIS_ERR_NO_OP = 28,
    /** Done in part, what is missing must be repaired. */
    SA_AIS_ERR_REPAIR_PENDING = 29,
    /** The name stands for nothing. */
    SA_AIS_ERR_NO_BINDINGS = 30,
    /** This node is no member of the cluster, or was none in between: only Finalize helps. */
    SA_AIS_ERR_UNAVAILABLE = 31,
    SA_AIS_ERR_CAMPAIGN_ERROR_DETECTED = 32,
    SA_AIS_ERR_CAMPAIGN_PROC_FAILED = 33,
    SA_AIS_ERR_CAMPAIGN_CANCELED = 34,
    SA_AIS_ERR_CAMPAIGN_FAILED = 35,
    SA_AIS_ERR_CAMPAIGN_SUSPENDED = 36,
    SA_AIS_ERR_CAMPAIGN_SUSPENDING = 37,
    /** The caller has not the right. */
    SA_AIS_ERR_ACCESS_DENIED = 38,
    /** Not in operation yet. */
    SA_AIS_ERR_NOT_READY = 39,
    /** It could not be put in place. */
    SA_AIS_ERR_DEPLOYMENT = 40
} SaAisErrorT;

/* ---- Dispatching --------------------------------------------------------------------------------------------- */

/**
 * How much a service's Dispatch function does. Callbacks are called by nobody else, in the thread that dispatches.
 */
typedef enum {
    /** At most one callback, if one waits; returns at once. */
    SA_DISPATCH_ONE = 1,
    /** All callbacks that wait; then returns. */
    SA_DISPATCH_ALL = 2,
    /** Callbacks as they come, until another thread, or a callback, finalises the handle. */
    SA_DISPATCH_BLOCKING = 3
} SaDispatchFlagsT;

/* ---- Tracking ------------------------------------------------------------------------------------------------ */

#define SA_TRACK_CURRENT 0x01
#define SA_TRACK_CHANGES 0x02
#define SA_TRACK_CHANGES_ONLY 0x04
#define SA_TRACK_LOCAL 0x08
#define SA_TRACK_START_STEP 0x10
#define SA_TRACK_VALIDATE_STEP 0x20

/* ---- Services ------------------------------------------------------------------------------------------------ */

/** The services' numbers, as they stand in notifications. */
typedef enum {
    SA_SVC_HPI = 1,
    SA_SVC_AMF = 2,
    SA_SVC_CLM = 3,
    SA_SVC_CKPT = 4,
    SA_SVC_EVT = 5,
    SA_SVC_MSG = 6,
    SA_SVC_LCK = 7,
    SA_SVC_IMMS = 8,
    SA_SVC_LOG = 9,
    SA_SVC_NTF = 10,
    SA_SVC_NAM = 11,
    SA_SVC_TMR = 12,
    SA_SVC_SMF = 13,
    SA_SVC_SEC = 14,
    SA_SVC_PLM = 15
} SaServicesT;

#ifdef __cplusplus
}
#endif

#endif
