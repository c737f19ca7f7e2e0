/*
 * safCkptLibrary.h - a checkpoint in a file of one process, without any service
 *
 * For state that a program wants to find again when it is started after anything, also in another version of itself: a
 * value is read by the serialiser of the version that it was written in. It has data sets, each with a value of its
 * own and any number of elements, which are values under keys.
 *
 * What an application does: safCkptLibraryOpen(), safCkptLibraryDataSetOpen() with its serialisers, and then
 * safCkptLibraryDataSetWrite(), safCkptLibraryElementWrite(), or safCkptLibraryUpdate() for several changes at once.
 * Link with `pkg-config --cflags --libs saf-ckpt-library`. The file is an SQLite database.
 *
 * Rules for all functions:
 *
 * - A change is on the disk when its function returns SA_AIS_OK, and done wholly or not at all, whatever dies when.
 * - Threads: every function may be called from any thread, and from serialisers, but not from a signal handler. Calls
 *   for one file wait for the disk, and for each other. The library starts no thread. A thread that may be cancelled
 *   must not be in one of these functions.
 * - A file belongs to one process, and to one open of it, at a time.
 * - fork(): handles stay with the parent. In the child every handle is SA_AIS_ERR_BAD_HANDLE; it may exec, or open
 *   files that the parent did not have open when it forked.
 * - Errors that any function may return beside those it names: SA_AIS_ERR_BAD_HANDLE (no such handle, closed, or its
 *   parent is), SA_AIS_ERR_FAILED_OPERATION (the disk, the rights, the folder), SA_AIS_ERR_LIBRARY (the file is not
 *   what was written), SA_AIS_ERR_NO_MEMORY, SA_AIS_ERR_NO_RESOURCES (more than a million handles). Nothing was changed
 *   then.
 * - Memory that is handed out, to the library too, comes from malloc().
 */
#ifndef SAF_CKPT_LIBRARY_H
#define SAF_CKPT_LIBRARY_H

#include "saAis.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Types --------------------------------------------------------------------------------------------------- */

/** A library checkpoint that is open. */
typedef SaUint64T SafCkptLibraryHandleT;
/** A data set of it, with the serialisers of this program. */
typedef SaUint64T SafCkptLibraryDataSetHandleT;

/** What an element is found by. */
typedef struct {
    /** 1 to SAF_CKPT_LIBRARY_KEY_MAX. */
    SaUint16T keyLen;
    const SaUint8T *key;
} SafCkptLibraryKeyT;

#define SAF_CKPT_LIBRARY_KEY_MAX 2048
/** Bytes of a data set's name. */
#define SAF_CKPT_LIBRARY_NAME_MAX 255
/** Bytes that a serialiser may write. */
#define SAF_CKPT_LIBRARY_DATA_MAX ((256u << 20) - 8u)

/** The value of a data set without serialisers. */
typedef struct {
    void *data;
    SaSizeT dataSize;
} SafCkptLibraryBytesT;

/**
 * Writes a value in one version of its form.
 *
 * @param key       of the element; NULL for the data set's own value
 * @param value     what was given to the function that writes
 * @param data      to be set to memory of malloc(), which the library frees; NULL if there are no bytes
 * @param dataSize  to be set to its size
 * @param cookie    what was given to safCkptLibraryDataSetOpen()
 *
 * @return SA_AIS_OK; anything else is what the function that writes returns, and nothing is written.
 */
typedef SaAisErrorT (*SafCkptLibrarySerialiseT)(
    const SafCkptLibraryKeyT *key, const void *value, void **data, SaSizeT *dataSize, void *cookie);

/**
 * Reads what was written in one version of the form.
 *
 * @param key    of the element; NULL for the data set's own value
 * @param data   exactly what the serialiser of this version wrote, valid until this returns; not aligned
 * @param value  what was given to the function that reads
 *
 * @return SA_AIS_OK; anything else is what the function that reads returns.
 */
typedef SaAisErrorT (*SafCkptLibraryDeserialiseT)(
    const SafCkptLibraryKeyT *key, const void *data, SaSizeT dataSize, void *value, void *cookie);

/**
 * How values are written and read in one version of their form. A version, once data was written in it, stays what it
 * is; what changes gets a new one.
 */
typedef struct {
    /** Not 0. */
    SaUint32T version;
    SafCkptLibrarySerialiseT serialise;
    SafCkptLibraryDeserialiseT deserialise;
} SafCkptLibrarySerialiserT;

/* ---- Files --------------------------------------------------------------------------------------------------- */

/** A flag of safCkptLibraryOpen(): make it if it is not there. An empty file is none, and becomes one. */
#define SAF_CKPT_LIBRARY_CREATE 0x1

/**
 * Opens a library checkpoint.
 *
 * @param path     of its file; SQLite keeps another beside it, PATH-wal. The folder must exist.
 * @param flags    SAF_CKPT_LIBRARY_CREATE or 0
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (a pointer is NULL, path is empty); SA_AIS_ERR_BAD_FLAGS;
 *         SA_AIS_ERR_NOT_EXIST (and not to be made); SA_AIS_ERR_BUSY (it is open already, here or elsewhere);
 *         SA_AIS_ERR_VERSION (a file of another program or of a later version of this one; not touched);
 *         SA_AIS_ERR_NO_SPACE.
 */
SaAisErrorT safCkptLibraryOpen(const char *path, SaUint32T flags, SafCkptLibraryHandleT *libraryHandle);

/** Closes it with all its data sets. Not closing it loses nothing. @return SA_AIS_OK. */
SaAisErrorT safCkptLibraryClose(SafCkptLibraryHandleT libraryHandle);

/**
 * Whether there is one, without looking inside.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST; SA_AIS_ERR_INVALID_PARAM (as for an open).
 */
SaAisErrorT safCkptLibraryCheck(const char *path);

/**
 * Removes one, with the files beside it.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (as for an open); SA_AIS_ERR_NOT_EXIST; SA_AIS_ERR_BUSY (it is open);
 *         SA_AIS_ERR_VERSION (none of ours; not touched). One that is damaged, or was never wholly made, is removed.
 */
SaAisErrorT safCkptLibraryDelete(const char *path);

/* ---- Data sets ----------------------------------------------------------------------------------------------- */

/**
 * Says how a data set is written and read; touches nothing in the file. Any number of opens of one name are allowed.
 *
 * @param name                 1 to SAF_CKPT_LIBRARY_NAME_MAX bytes
 * @param serialisers          one for each version that this program knows, in any order; copied
 * @param numberOfSerialisers  0: values are bytes as they are, SafCkptLibraryBytesT, in version 1. A value that is read
 *                             gets data of malloc(), NULL if there are no bytes.
 * @param cookie               for the serialisers
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (a pointer is NULL, also in a serialiser; the name; a version that is 0
 *         or there twice).
 */
SaAisErrorT safCkptLibraryDataSetOpen(
    SafCkptLibraryHandleT libraryHandle, const char *name, const SafCkptLibrarySerialiserT *serialisers,
    SaUint32T numberOfSerialisers, void *cookie, SafCkptLibraryDataSetHandleT *dataSetHandle);

/** Gives the handle back; deletes nothing. @return SA_AIS_OK. */
SaAisErrorT safCkptLibraryDataSetClose(SafCkptLibraryDataSetHandleT dataSetHandle);

/**
 * Writes the data set's own value.
 *
 * @param value    for the serialiser; as it takes it
 * @param version  in which it is written; 0: the newest. An older one is for a program that is older.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_VERSION (no serialiser of that version); SA_AIS_ERR_INVALID_PARAM (more than
 *         SAF_CKPT_LIBRARY_DATA_MAX bytes; bytes that are NULL; value is NULL and there are no serialisers);
 *         SA_AIS_ERR_NO_SPACE; what the serialiser says.
 */
SaAisErrorT safCkptLibraryDataSetWrite(
    SafCkptLibraryDataSetHandleT dataSetHandle, const void *value, SaUint32T version);

/**
 * Reads the data set's own value by the serialiser of the version in which it was written.
 *
 * @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST; SA_AIS_ERR_VERSION (no serialiser of the version that was found, see
 *         safCkptLibraryDataSetCheck()); SA_AIS_ERR_INVALID_PARAM (value is NULL and there are no serialisers); what
 *         the serialiser says.
 */
SaAisErrorT safCkptLibraryDataSetRead(SafCkptLibraryDataSetHandleT dataSetHandle, void *value);

/**
 * Whether the data set has a value or an element.
 *
 * @param version  set to the version in which its own value was written, 0 if there is none; may be NULL
 *
 * @return SA_AIS_OK; SA_AIS_ERR_NOT_EXIST.
 */
SaAisErrorT safCkptLibraryDataSetCheck(SafCkptLibraryDataSetHandleT dataSetHandle, SaUint32T *version);

/** Deletes the data set's value and all its elements. @return SA_AIS_OK, also if none; SA_AIS_ERR_NO_SPACE. */
SaAisErrorT safCkptLibraryDataSetDelete(SafCkptLibraryDataSetHandleT dataSetHandle);

/* ---- Elements ------------------------------------------------------------------------------------------------ */

/** As safCkptLibraryDataSetWrite(); SA_AIS_ERR_INVALID_PARAM for the key, too. */
SaAisErrorT safCkptLibraryElementWrite(
    SafCkptLibraryDataSetHandleT dataSetHandle, const SafCkptLibraryKeyT *key, const void *value, SaUint32T version);

/** As safCkptLibraryDataSetRead(); SA_AIS_ERR_INVALID_PARAM for the key, too. */
SaAisErrorT safCkptLibraryElementRead(
    SafCkptLibraryDataSetHandleT dataSetHandle, const SafCkptLibraryKeyT *key, void *value);

/** As safCkptLibraryDataSetCheck(); SA_AIS_ERR_INVALID_PARAM for the key. */
SaAisErrorT safCkptLibraryElementCheck(
    SafCkptLibraryDataSetHandleT dataSetHandle, const SafCkptLibraryKeyT *key, SaUint32T *version);

/** @return SA_AIS_OK, also if there is none; SA_AIS_ERR_INVALID_PARAM (the key); SA_AIS_ERR_NO_SPACE. */
SaAisErrorT safCkptLibraryElementDelete(SafCkptLibraryDataSetHandleT dataSetHandle, const SafCkptLibraryKeyT *key);

/**
 * Reads elements in the order of their keys' bytes: calls the deserialiser for each, as they are at one moment.
 *
 * @param after             only those behind this key; NULL: from the first on
 * @param elementsMax       no more than so many at once, which are held in memory; 0: all
 * @param value             for every call of the deserialiser, which knows the element by its key
 * @param numberOfElements  set to how many were read; may be NULL
 *
 * @return SA_AIS_OK, also if there are none; SA_AIS_ERR_VERSION (no serialiser of a version that was found);
 *         SA_AIS_ERR_INVALID_PARAM (the key; there are no serialisers: use elements one by one); what the deserialiser
 *         says, which ends it.
 */
SaAisErrorT safCkptLibraryElementsRead(
    SafCkptLibraryDataSetHandleT dataSetHandle, const SafCkptLibraryKeyT *after, SaUint32T elementsMax, void *value,
    SaUint32T *numberOfElements);

/* ---- Several changes ----------------------------------------------------------------------------------------- */

typedef enum {
    /** The value of an element, or the data set's own. */
    SAF_CKPT_LIBRARY_WRITE = 1,
    /** An element, or the data set with all its elements; nothing if there is none. */
    SAF_CKPT_LIBRARY_DELETE = 2
} SafCkptLibraryChangeKindT;

typedef struct {
    SafCkptLibraryChangeKindT kind;
    /** In which it is written; 0: the newest. */
    SaUint32T version;
    /** Of the library checkpoint that is changed. */
    SafCkptLibraryDataSetHandleT dataSet;
    /** Of the element; NULL for the data set. */
    const SafCkptLibraryKeyT *key;
    /** As for safCkptLibraryDataSetWrite(). */
    const void *value;
} SafCkptLibraryChangeT;

/**
 * Does several changes: all of them, in their order, or none. They cost one write to the disk.
 *
 * @param erroneousIndex  set to the first change that cannot be, unchanged otherwise; may be NULL
 *
 * @return SA_AIS_OK; SA_AIS_ERR_INVALID_PARAM (changes is NULL, numberOfChanges is 0, a kind, a data set of another
 *         checkpoint); SA_AIS_ERR_BAD_HANDLE (a data set, too); else as the function that does the same alone.
 */
SaAisErrorT safCkptLibraryUpdate(
    SafCkptLibraryHandleT libraryHandle, const SafCkptLibraryChangeT *changes, SaUint32T numberOfChanges,
    SaUint32T *erroneousIndex);

#ifdef __cplusplus
}
#endif

#endif
