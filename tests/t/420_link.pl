# A direct link: rows arrive within a second and go on arriving, whatever is stopped; slots, options, new tables, removal.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;

sub rows
{
	my ($side, $table) = @_;
	return $mesh->sql($side, "SELECT coalesce(string_agg(id || '=' || coalesce(v, 'NULL'), ' ' ORDER BY id), '') FROM $table");
}

sub test_changes
{
	$mesh->sql_all('CREATE TABLE things (id int PRIMARY KEY, v text); CREATE TABLE own (id int PRIMARY KEY, v text)');
	$mesh->class('shop');
	$mesh->add_table($_, 'shop') for qw(things own);
	$mesh->link_all;
	$mesh->start_relays;
	ok(defined $mesh->wait_streaming(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
	for my $change (
		[ q{INSERT INTO things VALUES (1, 'one'), (2, 'two'), (3, NULL)}, '1=one 2=two 3=NULL' ],
		[ q{UPDATE things SET v = 'three' WHERE id = 3},                  '1=one 2=two 3=three' ],
		[ q{UPDATE things SET id = 20 WHERE id = 2},                      '1=one 3=three 20=two' ],
		[ q{DELETE FROM things WHERE id = 1},                             '3=three 20=two' ])
	{
		my ($sql, $wanted) = @$change;
		$mesh->sql('us', $sql);
		my $took = $mesh->wait_value('eu', q{SELECT coalesce(string_agg(id || '=' || coalesce(v, 'NULL'), ' ' ORDER BY id), '') FROM things}, $wanted, 10);
		ok(defined $took && $took < 1, sprintf '%s arrives within a second (%.3f s)', $sql, $took // -1);
	}
	$mesh->sql('eu', q{INSERT INTO own VALUES (7, 'of eu')});
	$mesh->settle;
	is(rows('us', 'own'), '7=of eu', 'the other way, too');
	return;
}

$mesh->sql('us', 'SELECT 1');
test_changes();
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
