// usearch's search with a predicate, which its Python package leaves out: a byte for each key says
// whether it may be an answer.

#include <usearch/index_dense.hpp>

using namespace unum::usearch;
using vector_key_t = index_dense_t::vector_key_t;

extern "C" void* usearch_load(char const* path) {
    auto made = index_dense_t::make(path);
    return made ? new index_dense_t(std::move(made.index)) : nullptr;
}

extern "C" std::size_t usearch_filtered(void* loaded, float const* query, std::size_t wanted, std::size_t beam,
                                        unsigned char const* mask, vector_key_t* keys) {
    auto& index = *static_cast<index_dense_t*>(loaded);
    index.change_expansion_search(beam);
    auto passes = [mask](vector_key_t key) noexcept { return mask[key] != 0; };
    return index.filtered_search(query, wanted, passes).dump_to(keys);
}
