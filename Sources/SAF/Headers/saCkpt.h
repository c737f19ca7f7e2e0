/*
 * saCkpt.h - the Checkpoint Service (SAI-AIS-CKPT-B.01.01 and B.02.02)
 *
 * A checkpoint is named state in memory that outlives the process that writes it. It has sections, each a piece of
 * bytes with an id, and replicas of all of them on several nodes. A process that takes over from one that died opens
 * the checkpoint by its name and goes on with what is in it.
 *
 * What an application does: saCkptInitialize(), saCkptCheckpointOpen(), saCkptSectionCreate(), and then
 * saCkptCheckpointWrite() and saCkptCheckpointRead(); saCkptFinalize() at the end, or never: what a dead process had
 * open is closed for it. Link with `pkg-config --cflags --libs saf-ckpt`.
 *
 * Rules for all functions:
 *
 * - Threads: every function may be called from any thread, from a callback, too, but not from a signal handler. The
 *   library starts no thread: callbacks run inside saCkptDispatch() only.
 * - Callbacks return: no C++ exception may leave them. A thread that may be cancelled must not be in one of these
 *   functions.
 * - fork(): handles stay with the parent. In the child every handle is SA_AIS_ERR_BAD_HANDLE; it may exec, or
 *   initialise the service for itself.
 * - Errors that any function may return beside those it names: SA_AIS_ERR_BAD_HANDLE (no such handle, closed, or its
 *   parent is), SA_AIS_ERR_LIBRARY, SA_AIS_ERR_TRY_AGAIN (the service is busy, being started again or not running:
 *   nothing happened), SA_AIS_ERR_TIMEOUT (no answer in time, it may have happened), SA_AIS_ERR_NO_MEMORY,
 *   SA_AIS_ERR_NO_RESOURCES, and for a handle of version B.02 SA_AIS_ERR_UNAVAILABLE (this node is no member of the
 *   cluster, or has not been one since the handle was made).
 * - SA_AIS_ERR_ACCESS also refuses what changes a checkpoint for a component that was active for a service instance
 *   which the availability service has given to another component since: it wrote too late, nothing happened, and
 *   trying again does not help. Only on several nodes.
 * - While the service is started again, which takes some milliseconds, calls wait inside their timeout, and functions
 *   without a timeout for 10 seconds. What was acknowledged before is there afterwards.
 * - Pointers that a callback is given are valid until it returns.
 * - Memory that is handed out comes from malloc().
 *
 * Versions. {'B', 1, x} and {'B', 2, x} are offered; it is a property of the handle that saCkptInitialize() makes.
 * With B.01 names are any bytes, and a timeout below 100 ms, as programs of that version pass it, counts as 10 seconds.
 * With B.02 a name begins with "safCkpt=", and a negative timeout is SA_AIS_ERR_INVALID_PARAM.
 */
#ifndef SA_CKPT_H
#define SA_CKPT_H

#include "saAis.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Types --------------------------------------------------------------------------------------------------- */

/** One use of the service by this process; there may be many. */
typedef SaUint64T SaCkptHandleT;
/** One open of a checkpoint. */
typedef SaUint64T SaCkptCheckpointHandleT;
/** One walk through a checkpoint's sections. */
typedef SaUint64T SaCkptSectionIterationHandleT;

/** How replicas are updated: exactly one of the first three. */
typedef SaUint32T SaCkptCheckpointCreationFlagsT;
/** Synchronously: a call that changes the checkpoint returns when every replica has the change. */
#define SA_CKPT_WR_ALL_REPLICAS 0x1
/**
 * Asynchronously: a call returns when the active replica has the change, and the others follow. A change is done wholly
 * or not at all. Reads are answered by the active replica.
 */
#define SA_CKPT_WR_ACTIVE_REPLICA 0x2
/** As above, but a change that is cut off by a crash may leave a section SA_CKPT_SECTION_CORRUPTED. */
#define SA_CKPT_WR_ACTIVE_REPLICA_WEAK 0x4
/**
 * May be added: replicas are only where a process has the checkpoint open. Together with one of the two asynchronous
 * ways it has no active replica until somebody calls saCkptActiveReplicaSet(), and again none when that one is lost.
 */
#define SA_CKPT_CHECKPOINT_COLLOCATED 0x8

/** What an open is for: at least one. */
typedef SaUint32T SaCkptCheckpointOpenFlagsT;
#define SA_CKPT_CHECKPOINT_READ 0x1
#define SA_CKPT_CHECKPOINT_WRITE 0x2
/** Make it if there is none; alone it allows neither to read nor to write. */
#define SA_CKPT_CHECKPOINT_CREATE 0x4

/** How a checkpoint is made. */
typedef struct {
    SaCkptCheckpointCreationFlagsT creationFlags;
    /** Bytes in all sections together; at most maxSections times maxSectionSize. */
    SaSizeT checkpointSize;
    /** How long the checkpoint outlives its last close, anywhere: 0 not at all, SA_TIME_END for ever. */
    SaTimeT retentionDuration;
    /** 1: the default section is there from the beginning, and no other can be. */
    SaUint32T maxSections;
    SaSizeT maxSectionSize;
    /** Bytes of a section's id. */
    SaSizeT maxSectionIdSize;
} SaCkptCheckpointCreationAttributesT;

/** What a section is called: bytes, which are compared with their number. */
typedef struct {
    SaUint16T idLen;
    SaUint8T *id;
} SaCkptSectionIdT;

/** The only section of a checkpoint with maxSections 1. */
#define SA_CKPT_DEFAULT_SECTION_ID {0, NULL}
/** To saCkptSectionCreate(): choose an id for me. */
#define SA_CKPT_GENERATED_SECTION_ID {0, NULL}

/** How a section is made. */
typedef struct {
    SaCkptSectionIdT *sectionId;
    /** When the section ceases to exist, whoever uses it then; SA_TIME_END: never. */
    SaTimeT expirationTime;
} SaCkptSectionCreationAttributesT;

typedef enum {
    SA_CKPT_SECTION_VALID = 1,
    /** It can be neither read nor written. Overwriting it makes it valid. */
    SA_CKPT_SECTION_CORRUPTED = 2
} SaCkptSectionStateT;

/** A section, as an iteration finds it. */
typedef struct {
    SaCkptSectionIdT sectionId;
    SaTimeT expirationTime;
    SaSizeT sectionSize;
    SaCkptSectionStateT sectionState;
    /** When its data was changed last. */
    SaTimeT lastUpdate;
} SaCkptSectionDescriptorT;

/** Which sections an iteration is about. */
typedef enum {
    /** Those that never expire. */
    SA_CKPT_SECTIONS_FOREVER = 1,
    /** Those that expire, at the given time or before. */
    SA_CKPT_SECTIONS_LEQ_EXPIRATION_TIME = 2,
    /** Those that expire, at the given time or after. */
    SA_CKPT_SECTIONS_GEQ_EXPIRATION_TIME = 3,
    SA_CKPT_SECTIONS_CORRUPTED = 4,
    SA_CKPT_SECTIONS_ANY = 5
} SaCkptSectionsChosenT;

/** A piece of a section to write or to read. */
typedef struct {
    SaCkptSectionIdT sectionId;
    void *dataBuffer;
    SaSizeT dataSize;
    SaOffsetT dataOffset;
    /** How many bytes were read. */
    SaSizeT readSize;
} SaCkptIOVectorElementT;

/** A checkpoint, as saCkptCheckpointStatusGet() finds it. */
typedef struct {
    /** As given when it was made, but with the retention duration of now. */
    SaCkptCheckpointCreationAttributesT checkpointCreationAttributes;
    SaUint32T numberOfSections;
    /** Bytes of the sections' data. */
    SaSizeT memoryUsed;
} SaCkptCheckpointDescriptorT;

/** What a notification about a checkpoint (B.02) is about, and what it says. */
typedef enum { SA_CKPT_CHECKPOINT_STATUS = 1 } SaCkptStateT;
typedef enum {
    SA_CKPT_SECTION_RESOURCES_EXHAUSTED = 1,
    SA_CKPT_SECTION_RESOURCES_AVAILABLE = 2
} SaCkptCheckpointStatusT;

/* ---- Callbacks ----------------------------------------------------------------------------------------------- */

/**
 * An saCkptCheckpointOpenAsync() is done.
 *
 * @param invocation        what was given there
 * @param checkpointHandle  the open checkpoint if error is SA_AIS_OK
 * @param error             as of saCkptCheckpointOpen()
 */
typedef void (*SaCkptCheckpointOpenCallbackT)(
    SaInvocationT invocation, SaCkptCheckpointHandleT checkpointHandle, SaAisErrorT error);

/**
 * An saCkptCheckpointSynchronizeAsync() is done.
 *
 * @param invocation  what was given there
 * @param error       as of saCkptCheckpointSynchronize()
 */
typedef void (*SaCkptCheckpointSynchronizeCallbackT)(SaInvocationT invocation, SaAisErrorT error);

/** The callbacks of a handle; each may be NULL, and then the asynchronous call it belongs to is not possible. */
typedef struct {
    SaCkptCheckpointOpenCallbackT saCkptCheckpointOpenCallback;
    SaCkptCheckpointSynchronizeCallbackT saCkptCheckpointSynchronizeCallback;
} SaCkptCallbacksT;

/* ---- Life cycle ---------------------------------------------------------------------------------------------- */

/**
 * Begins to use the service: the first call of it. Each call makes a handle of its own.
 *
 * @param ckptHandle     set on success
 * @param ckptCallbacks  copied; NULL: none
 * @param version        in: release and major version the program is written for, by which the handle behaves; out: the
 *                       newest version offered, B.02.02
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (ckptHandle or version is NULL); SA_AIS_ERR_VERSION (not offered);
 *         SA_AIS_ERR_NO_RESOURCES (no descriptor is left).
 */
SaAisErrorT saCkptInitialize(SaCkptHandleT *ckptHandle, const SaCkptCallbacksT *ckptCallbacks, SaVersionT *version);

/**
 * The descriptor to wait on until saCkptDispatch() has something to do: readable then, and only then. It belongs to the
 * handle: not to be read, written or closed by the caller, and gone with saCkptFinalize().
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (selectionObject is NULL); SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptSelectionObjectGet(SaCkptHandleT ckptHandle, SaSelectionObjectT *selectionObject);

/**
 * Calls the callbacks that wait. Several threads may dispatch the same handle; each callback runs in one of them.
 *
 * @return SA_AIS_OK, also when nothing waited, and from SA_DISPATCH_BLOCKING once the handle is finalised;
 *         SA_AIS_ERR_INVALID_PARAM (dispatchFlags); SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptDispatch(SaCkptHandleT ckptHandle, SaDispatchFlagsT dispatchFlags);

/**
 * Ends the use of the service: closes all checkpoints and iterations of the handle, drops the callbacks that wait, and
 * lets threads return from SA_DISPATCH_BLOCKING. A callback that runs in another thread is not waited for.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_BAD_HANDLE, also for the second call.
 */
SaAisErrorT saCkptFinalize(SaCkptHandleT ckptHandle);

/* ---- Checkpoints --------------------------------------------------------------------------------------------- */

/**
 * Opens a checkpoint, and makes it if need be. With SA_CKPT_WR_ALL_REPLICAS, if a replica is made here it has
 * everything when the function returns.
 *
 * @param checkpointName                what it is called in the whole cluster
 * @param checkpointCreationAttributes  not NULL exactly if checkpointOpenFlags has SA_CKPT_CHECKPOINT_CREATE
 * @param timeout                       nanoseconds
 * @param checkpointHandle              set on success
 *
 * @return SA_AIS_OK;
 *         SA_AIS_ERR_INVALID_PARAM  a pointer is NULL; attributes without CREATE, or CREATE without them; creationFlags
 *                                   that do not go together; checkpointSize above maxSections times maxSectionSize; a
 *                                   name of length 0 or above 256, or of the long form without
 *                                   SA_ENABLE_EXTENDED_NAMES; B.02: a negative timeout, a name that does not begin with
 *                                   "safCkpt=";
 *         SA_AIS_ERR_BAD_FLAGS      no flag, or one that does not exist;
 *         SA_AIS_ERR_NOT_EXIST      there is none of the name, and no CREATE;
 *         SA_AIS_ERR_EXIST          there is one, with other attributes. The retention duration is not compared;
 *         SA_AIS_ERR_TOO_BIG        B.02: a name of the long form with more than 256 bytes;
 *         SA_AIS_ERR_NO_SPACE       the node has no memory left for it;
 *         SA_AIS_ERR_TIMEOUT        it may have been made.
 */
SaAisErrorT saCkptCheckpointOpen(
    SaCkptHandleT ckptHandle, const SaNameT *checkpointName,
    const SaCkptCheckpointCreationAttributesT *checkpointCreationAttributes,
    SaCkptCheckpointOpenFlagsT checkpointOpenFlags, SaTimeT timeout, SaCkptCheckpointHandleT *checkpointHandle);

/**
 * As saCkptCheckpointOpen(), without waiting: exactly one SaCkptCheckpointOpenCallbackT follows if this returns
 * SA_AIS_OK, and none otherwise.
 *
 * @param invocation  for the callback
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INIT (no such callback was given to saCkptInitialize()); SA_AIS_ERR_INVALID_PARAM,
 *         SA_AIS_ERR_BAD_FLAGS and SA_AIS_ERR_TOO_BIG as there. In the callback: SA_AIS_ERR_NOT_EXIST,
 *         SA_AIS_ERR_EXIST, SA_AIS_ERR_NO_SPACE.
 */
SaAisErrorT saCkptCheckpointOpenAsync(
    SaCkptHandleT ckptHandle, SaInvocationT invocation, const SaNameT *checkpointName,
    const SaCkptCheckpointCreationAttributesT *checkpointCreationAttributes,
    SaCkptCheckpointOpenFlagsT checkpointOpenFlags);

/**
 * Closes a checkpoint; the handle and the iterations made with it end. After the last close in the cluster its
 * retention duration begins; if it has been unlinked, it is deleted.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptCheckpointClose(SaCkptCheckpointHandleT checkpointHandle);

/**
 * Takes a checkpoint's name away, at once: the name can be used for another one. Who has it open goes on with it; it is
 * deleted with its last close, or now if nobody has.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (the name, as for an open); SA_AIS_ERR_NOT_EXIST.
 */
SaAisErrorT saCkptCheckpointUnlink(SaCkptHandleT ckptHandle, const SaNameT *checkpointName);

/**
 * Changes how long the checkpoint outlives its last close; 0 is allowed. However it was opened.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (negative); SA_AIS_ERR_BAD_OPERATION (it has been unlinked).
 */
SaAisErrorT saCkptCheckpointRetentionDurationSet(
    SaCkptCheckpointHandleT checkpointHandle, SaTimeT retentionDuration);

/**
 * Makes this node's replica of a collocated, asynchronously updated checkpoint the active one. It has everything the
 * one before had when the function returns.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_ACCESS (not opened with WRITE); SA_AIS_ERR_BAD_OPERATION (not collocated, or
 *         SA_CKPT_WR_ALL_REPLICAS).
 */
SaAisErrorT saCkptActiveReplicaSet(SaCkptCheckpointHandleT checkpointHandle);

/**
 * Attributes, number of sections and memory of a checkpoint; however it was opened.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (checkpointStatus is NULL); SA_AIS_ERR_NOT_EXIST (no active replica).
 */
SaAisErrorT saCkptCheckpointStatusGet(
    SaCkptCheckpointHandleT checkpointHandle, SaCkptCheckpointDescriptorT *checkpointStatus);

/* ---- Sections ------------------------------------------------------------------------------------------------ */

/**
 * Makes a section.
 *
 * @param sectionCreationAttributes  with SA_CKPT_GENERATED_SECTION_ID as id the service chooses one, which stands there
 *                                   afterwards, in memory for saCkptSectionIdFree() or free()
 * @param initialData                may be NULL if initialDataSize is 0: an empty section
 *
 * @return SA_AIS_OK;
 *         SA_AIS_ERR_INVALID_PARAM  a pointer is NULL; an id above maxSectionIdSize; data above maxSectionSize; a time
 *                                   that is over;
 *         SA_AIS_ERR_NO_SPACE       maxSections are there, checkpointSize would be exceeded, or the node has no memory;
 *         SA_AIS_ERR_EXIST          there is one with this id, or the checkpoint has maxSections 1;
 *         SA_AIS_ERR_ACCESS         not opened with WRITE;
 *         SA_AIS_ERR_NOT_EXIST      no active replica.
 */
SaAisErrorT saCkptSectionCreate(
    SaCkptCheckpointHandleT checkpointHandle, SaCkptSectionCreationAttributesT *sectionCreationAttributes,
    const void *initialData, SaSizeT initialDataSize);

/**
 * Gives back the bytes of an id that saCkptSectionCreate() chose. Since B.02; a program of B.01 calls free().
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (id is NULL); SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptSectionIdFree(SaCkptCheckpointHandleT checkpointHandle, SaUint8T *id);

/**
 * Deletes a section.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (sectionId is NULL, or the default section's); SA_AIS_ERR_ACCESS (not
 *         opened with WRITE); SA_AIS_ERR_NOT_EXIST (no such section, or no active replica).
 */
SaAisErrorT saCkptSectionDelete(SaCkptCheckpointHandleT checkpointHandle, const SaCkptSectionIdT *sectionId);

/**
 * Says when a section ceases to exist.
 *
 * @param expirationTime  since 1970; SA_TIME_END: never; a time that is over: now
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (sectionId is NULL, or the default section's); SA_AIS_ERR_ACCESS (not
 *         opened with WRITE); SA_AIS_ERR_NOT_EXIST (no such section, or no active replica).
 */
SaAisErrorT saCkptSectionExpirationTimeSet(
    SaCkptCheckpointHandleT checkpointHandle, const SaCkptSectionIdT *sectionId, SaTimeT expirationTime);

/**
 * Begins a walk through sections. Each one that is there now, and is not deleted before the walk ends, is found exactly
 * once; those that come meanwhile may be found or not.
 *
 * @param sectionsChosen          which ones
 * @param expirationTime          for the two choices that compare it
 * @param sectionIterationHandle  set on success
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (sectionsChosen; sectionIterationHandle is NULL);
 *         SA_AIS_ERR_NOT_EXIST (no active replica).
 */
SaAisErrorT saCkptSectionIterationInitialize(
    SaCkptCheckpointHandleT checkpointHandle, SaCkptSectionsChosenT sectionsChosen, SaTimeT expirationTime,
    SaCkptSectionIterationHandleT *sectionIterationHandle);

/**
 * The next section of the walk.
 *
 * @param sectionDescriptor  set on success; its id's bytes are the library's, until the next call for this handle
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (sectionDescriptor is NULL); SA_AIS_ERR_NO_SECTIONS (that was all);
 *         SA_AIS_ERR_NOT_EXIST (no active replica).
 */
SaAisErrorT saCkptSectionIterationNext(
    SaCkptSectionIterationHandleT sectionIterationHandle, SaCkptSectionDescriptorT *sectionDescriptor);

/**
 * Ends a walk.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_BAD_HANDLE, also for the second call, and after the checkpoint was closed.
 */
SaAisErrorT saCkptSectionIterationFinalize(SaCkptSectionIterationHandleT sectionIterationHandle);

/* ---- Data ---------------------------------------------------------------------------------------------------- */

/**
 * Writes pieces of sections: all of them or, after an error, none. They take effect in their order; to other processes
 * at once. A section grows as needed, and what it gains in between is zero.
 *
 * @param ioVector              of each element: the section, dataSize bytes of dataBuffer, to be at dataOffset
 * @param erroneousVectorIndex  set to the first element that could not be written, unchanged on success; may be NULL
 *
 * @return SA_AIS_OK;
 *         SA_AIS_ERR_INVALID_PARAM  ioVector is NULL, numberOfElements is 0, a dataBuffer is NULL with a dataSize; an
 *                                   element would end beyond maxSectionSize;
 *         SA_AIS_ERR_NOT_EXIST      a section, or no active replica;
 *         SA_AIS_ERR_ACCESS         not opened with WRITE;
 *         SA_AIS_ERR_NO_SPACE       checkpointSize would be exceeded, or the node has no memory;
 *         SA_AIS_ERR_LIBRARY        a section is corrupted.
 */
SaAisErrorT saCkptCheckpointWrite(
    SaCkptCheckpointHandleT checkpointHandle, const SaCkptIOVectorElementT *ioVector, SaUint32T numberOfElements,
    SaUint32T *erroneousVectorIndex);

/**
 * Replaces a section's data by other data, of another size perhaps. A corrupted section is valid afterwards.
 *
 * @return SA_AIS_OK;
 *         SA_AIS_ERR_INVALID_PARAM  sectionId is NULL, dataBuffer is NULL with a dataSize, or dataSize is above
 *                                   maxSectionSize;
 *         SA_AIS_ERR_NOT_EXIST      no such section, or no active replica;
 *         SA_AIS_ERR_ACCESS         not opened with WRITE;
 *         SA_AIS_ERR_NO_SPACE       checkpointSize would be exceeded, or the node has no memory.
 */
SaAisErrorT saCkptSectionOverwrite(
    SaCkptCheckpointHandleT checkpointHandle, const SaCkptSectionIdT *sectionId, const void *dataBuffer,
    SaSizeT dataSize);

/**
 * Reads pieces of sections, all as they are after one and the same change.
 *
 * @param ioVector              of each element, in: the section and dataOffset; dataBuffer with room for dataSize
 *                              bytes, or NULL: the library makes one for all there is from the offset on, to be given
 *                              back with saCkptIOVectorElementDataFree() or free(). Out: readSize, which is less than
 *                              dataSize where the section ends before
 * @param erroneousVectorIndex  set to the first element that could not be read, unchanged on success; may be NULL
 *
 * @return SA_AIS_OK;
 *         SA_AIS_ERR_INVALID_PARAM  ioVector is NULL, numberOfElements is 0, dataSize is above maxSectionSize with a
 *                                   dataBuffer, or dataOffset is beyond the section's end;
 *         SA_AIS_ERR_NOT_EXIST      a section, or no active replica;
 *         SA_AIS_ERR_ACCESS         not opened with READ;
 *         SA_AIS_ERR_NO_MEMORY      for a buffer;
 *         SA_AIS_ERR_NO_RESOURCES   more than 65,536 elements, or 56 MiB by several of them: read them in parts;
 *         SA_AIS_ERR_LIBRARY        a section is corrupted.
 */
SaAisErrorT saCkptCheckpointRead(
    SaCkptCheckpointHandleT checkpointHandle, SaCkptIOVectorElementT *ioVector, SaUint32T numberOfElements,
    SaUint32T *erroneousVectorIndex);

/**
 * Gives back a buffer that saCkptCheckpointRead() made. Since B.02; a program of B.01 calls free().
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (dataBuffer is NULL); SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptIOVectorElementDataFree(SaCkptCheckpointHandleT checkpointHandle, void *dataBuffer);

/**
 * Waits until all replicas have what was written before the call.
 *
 * @param timeout  nanoseconds
 *
 * @return SA_AIS_OK, also without sections; SA_AIS_ERR_ACCESS (not opened with WRITE); SA_AIS_ERR_BAD_OPERATION
 *         (SA_CKPT_WR_ALL_REPLICAS: they always have); SA_AIS_ERR_NOT_EXIST (no active replica);
 *         SA_AIS_ERR_INVALID_PARAM (B.02: a negative timeout); SA_AIS_ERR_TIMEOUT.
 */
SaAisErrorT saCkptCheckpointSynchronize(SaCkptCheckpointHandleT checkpointHandle, SaTimeT timeout);

/**
 * As saCkptCheckpointSynchronize(), without waiting: exactly one SaCkptCheckpointSynchronizeCallbackT follows if this
 * returns SA_AIS_OK, and none otherwise.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INIT (no such callback was given to saCkptInitialize()); SA_AIS_ERR_ACCESS,
 *         SA_AIS_ERR_BAD_OPERATION and SA_AIS_ERR_NOT_EXIST as there, here or in the callback.
 */
SaAisErrorT saCkptCheckpointSynchronizeAsync(SaCkptCheckpointHandleT checkpointHandle, SaInvocationT invocation);

/* ---- Tracking, as OpenSAF has it (its B.02.03) ----------------------------------------------------------------- */

/**
 * Sections of a checkpoint that is open with this handle were changed by somebody.
 *
 * @param ioVector  of each element: the section, dataOffset and dataSize of the change; dataBuffer is NULL, so that the
 *                  vector can be given to saCkptCheckpointRead() as it is. A deleted section has dataSize 0, and the
 *                  read says SA_AIS_ERR_NOT_EXIST
 *
 * safCkptUpdatesStart() of safCkpt.h brings the data itself, deletions by name and what was there before.
 */
typedef void (*SaCkptCheckpointTrackCallbackT)(
    SaCkptCheckpointHandleT checkpointHandle, SaCkptIOVectorElementT *ioVector, SaUint32T numberOfElements);

typedef struct {
    SaCkptCheckpointOpenCallbackT saCkptCheckpointOpenCallback;
    SaCkptCheckpointSynchronizeCallbackT saCkptCheckpointSynchronizeCallback;
    SaCkptCheckpointTrackCallbackT saCkptCheckpointTrackCallback;
} SaCkptCallbacksT_2;

/**
 * As saCkptInitialize(), for version B.02 only.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (ckptHandle or version is NULL); SA_AIS_ERR_VERSION (not B.02).
 */
SaAisErrorT saCkptInitialize_2(
    SaCkptHandleT *ckptHandle, const SaCkptCallbacksT_2 *ckptCallbacks, SaVersionT *version);

/**
 * Tracks all checkpoints that the handle has open for reading, now or later.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INIT (no callback, or not of saCkptInitialize_2()); SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptTrack(SaCkptHandleT ckptHandle);

/** Ends it. @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST (was not tracking); SA_AIS_ERR_BAD_HANDLE. */
SaAisErrorT saCkptTrackStop(SaCkptHandleT ckptHandle);

/**
 * Tracks one checkpoint.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INIT (as above); SA_AIS_ERR_ACCESS (not opened with READ); SA_AIS_ERR_BAD_HANDLE.
 */
SaAisErrorT saCkptCheckpointTrack(SaCkptCheckpointHandleT checkpointHandle);

/** Ends it. @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST (was not tracked); SA_AIS_ERR_BAD_HANDLE. */
SaAisErrorT saCkptCheckpointTrackStop(SaCkptCheckpointHandleT checkpointHandle);

#ifdef __cplusplus
}
#endif

#endif
