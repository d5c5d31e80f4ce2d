# PgTide::Docs
#		What a document says to do, done.
#
# Owns: finding a page's SQL blocks, and running them where they say: the first line of each that is
# meant to be run is "-- in every region" or "-- in REGION" (several: with "and").  Does not own: what must be true afterwards.
package PgTide::Docs;

use strict;
use warnings;

use Carp qw(croak);

sub slurp
{
	my ($path) = @_;
	open my $in, '<', "$ENV{TIDE_TOP}/$path" or croak "$path: $!";
	local $/ = undef;
	return <$in>;
}

# [[where, SQL], ...]; where: [] for every region.
sub blocks
{
	my ($page) = @_;
	my @blocks;
	for my $block (slurp($page) =~ /^```sql\n(.*?)^```$/msg)
	{
		$block =~ s/\A-- in ([^\n]+)\n// or next;
		my $where = $1;
		push @blocks, [ $where eq 'every region' ? [] : [ split / and /, $where ], $block ];
	}
	@blocks or croak "$page has no SQL to run";
	return @blocks;
}

# Runs those whose SQL matches (all, without a pattern), as often as that; dies if there is none.
# run->(region, SQL) does it; regions: all there are.
sub run
{
	my ($page, $pattern, $regions, $run) = @_;
	my $n = 0;
	for my $block (blocks($page))
	{
		my ($where, $sql) = @$block;
		next if defined $pattern && $sql !~ $pattern;
		$n++;
		for my $region (@$where ? @$where : @$regions)
		{
			$run->($region, $sql);
		}
	}
	$n or croak "$page has no block like $pattern";
	return $n;
}

1;
